"""Hands the kernel whole chunks of a file that is read here and there, and much of it.

A chunk is read and verified whole, however little of it is asked for. Whoever reads a file here
and there would have that done for each of its pages. So once two parts were asked for as often as
the file has chunks, the kernel gets what it did not ask for with what it did (FUSE_NOTIFY_STORE),
and answers from its pages from then on. Earlier it would not pay: that takes twice the time of a
read. Who reads in order is not meant: for them the kernel asks ahead, for more than a chunk.

Such pages have to be what the file holds. So only those of files are handed over that nobody may
write to, and whoever is about to change one (an open for writing, a truncation) is answered once
nothing of it is under way any more. A number that something is on its way to stays that file's,
since it counts as a lookup. It is done on a thread of its own: a page is locked while its reader
waits for an answer, which only the loop can give.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

_ENOUGH: Final = 2
"""Parts that were asked for, for each chunk of the file."""
_WAITING_BYTES: Final = 4 << 20
"""Of chunks that may wait for the kernel to take them."""


class Given(NamedTuple):
    """A chunk on its way."""

    number: int
    offset: int
    content: bytes


class WholeChunks:
    """Of one mount. `wait` and `close` are for other threads than the loop's."""

    __slots__ = (
        "_arrived",
        "_changed",
        "_ended",
        "_handles",
        "_store",
        "_thread",
        "_under_way",
        "_waiting",
        "allowed",
    )

    def __init__(self, store: Callable[[int, int, bytes], None]) -> None:
        """`store` hands over content: inode number, offset, bytes. It may wait; raises nothing."""
        self.allowed = False
        """Whether the kernel passes every write on at once: it has nothing newer than the file."""
        self._store = store
        self._handles: dict[int, tuple[int, int]] = {}
        """Handle -> where who reads in order goes on; parts that were asked for out of order."""
        self._waiting: deque[Given] = deque()
        self._under_way: Given | None = None
        self._arrived: deque[int] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ended = False

    @property
    def busy(self) -> bool:
        """Whether a page may be waiting for what the loop answers."""
        with self._changed:
            return bool(self._waiting) or self._under_way is not None

    # What is asked for

    def asked(self, handle: int, offset: int, length: int) -> int:
        """Part of a chunk was asked for; of how many chunks a file may be that is handed over now.

        0, of none, for who reads in order.
        """
        following, parts = self._handles.get(handle, (0, 0))
        in_order = offset == following
        parts += not in_order
        self._handles[handle] = offset + length, parts
        return 0 if in_order else parts // _ENOUGH

    def released(self, handle: int) -> None:
        """A handle was closed."""
        self._handles.pop(handle, None)

    # What is handed over

    def full(self, chunk_size: int) -> bool:
        """Whether enough is on its way already."""
        with self._changed:
            count = len(self._waiting) + (self._under_way is not None)
        return count * chunk_size >= _WAITING_BYTES

    def hand_over(self, number: int, offset: int, content: bytes) -> None:
        """Soon. The caller counts a lookup, which is over when `arrived` says so."""
        with self._changed:
            self._waiting.append(Given(number, offset, content))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ckfs-pages", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def arrived(self) -> int:
        """The number of a file to which something was handed over, once each time; 0: none."""
        return self._arrived.popleft() if self._arrived else 0

    def withdraw(self, number: int | None = None) -> Given | None:
        """What waits for this file, or for any, is not handed over. What is under way to it."""
        with self._changed:
            for given in [one for one in self._waiting if number in (None, one.number)]:
                self._waiting.remove(given)
                self._arrived.append(given.number)
            under_way = self._under_way
            return under_way if under_way and number in (None, under_way.number) else None

    def wait(self, given: Given | None) -> None:
        """Until this is not under way any more."""
        with self._changed:
            self._changed.wait_for(lambda: given is None or self._under_way is not given)

    def close(self, seconds: float) -> None:
        """Nothing more; what is under way arrives, if it can in this time."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        changed, waiting = self._changed, self._waiting
        while True:
            with changed:
                changed.wait_for(lambda: waiting or self._ended)
                if self._ended:
                    return
                given = self._under_way = waiting.popleft()
            self._store(*given)
            with changed:
                self._under_way = None
                self._arrived.append(given.number)
                changed.notify_all()
