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

ENOUGH: Final = 2
"""Parts that were asked for, for each chunk of the file."""
_WAITING_BYTES: Final = 4 << 20
"""Of chunks that may wait for the kernel to take them."""


class _Given(NamedTuple):
    serial: int
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
        "_left",
        "_serial",
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
        self._waiting: deque[_Given] = deque()
        self._under_way: _Given | None = None
        self._left = 0
        """Chunks that wait or are under way."""
        self._arrived: deque[int] = deque()
        self._serial = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ended = False

    @property
    def busy(self) -> bool:
        """Whether a page may be waiting for what the loop answers."""
        return self._left > 0

    # What is asked for

    def asked(self, handle: int, offset: int, length: int) -> int:
        """Part of a chunk was asked for; the how manieth it is by this handle, 0 if in order."""
        following, parts = self._handles.get(handle, (0, 0))
        if offset == following:
            self._handles[handle] = offset + length, parts
            return 0
        self._handles[handle] = offset + length, parts + 1
        return parts + 1

    def released(self, handle: int) -> None:
        """A handle was closed."""
        self._handles.pop(handle, None)

    # What is handed over

    def full(self, chunk_size: int) -> bool:
        """Whether enough is on its way already."""
        return self._left * chunk_size >= _WAITING_BYTES

    def hand_over(self, number: int, offset: int, content: bytes) -> None:
        """Soon. The caller counts a lookup, which is over when `arrived` says so."""
        with self._changed:
            self._serial += 1
            self._left += 1
            self._waiting.append(_Given(self._serial, number, offset, content))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ckfs-pages", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def arrived(self) -> int:
        """The number of a file to which something was handed over, once each time; 0: none."""
        return self._arrived.popleft() if self._arrived else 0

    def withdraw(self, number: int) -> int:
        """What waits for this file is not handed over. What to `wait` for, 0 for nothing."""
        if not self._left:
            return 0
        with self._changed:
            for given in [given for given in self._waiting if given.number == number]:
                self._waiting.remove(given)
                self._left -= 1
                self._arrived.append(number)
            under_way = self._under_way
            return under_way.serial if under_way and under_way.number == number else 0

    def withdraw_all(self) -> int:
        """As `withdraw`, of every file."""
        with self._changed:
            self._arrived.extend(given.number for given in self._waiting)
            self._left -= len(self._waiting)
            self._waiting.clear()
            return self._under_way.serial if self._under_way else 0

    def wait(self, serial: int) -> None:
        """Until this is not under way any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way or self._under_way.serial > serial)

    def close(self, seconds: float) -> None:
        """Nothing more; what is under way arrives, if it can in this time."""
        self.withdraw_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        changed, waiting = self._changed, self._waiting
        while True:
            with changed:
                while not waiting:
                    if self._ended:
                        return
                    changed.wait()
                given = self._under_way = waiting.popleft()
            self._store(given.number, given.offset, given.content)
            with changed:
                self._under_way = None
                self._left -= 1
                self._arrived.append(given.number)
                changed.notify_all()
