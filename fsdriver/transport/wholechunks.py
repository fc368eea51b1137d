"""Hands the kernel the whole of a chunk of which it asks for one part after the other.

A chunk is read and verified whole, however little of it is asked for. Whoever reads a file here
and there would have that done for each of its pages. So when a second part is asked for, the
kernel gets the others, too (FUSE_NOTIFY_STORE), and answers from its pages from then on. Who reads
in order is not meant: for them the kernel asks ahead, and for more than a chunk.

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

_REMEMBERED: Final = 1 << 14
"""Chunks of which a part was asked for; they need about 1.5 MiB."""
_WAITING_BYTES: Final = 4 << 20
"""Of chunks that may wait for the kernel to take them."""
_INDEX_BITS: Final = 48
"""As many as the index of a chunk can have."""


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
        "_next",
        "_parts",
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
        self._parts: set[int] = set()
        self._next: dict[int, int] = {}
        """Handle -> where who reads in order goes on."""
        self._waiting: deque[_Given] = deque()
        self._under_way: _Given | None = None
        self._arrived: deque[int] = deque()
        self._serial = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ended = False

    @property
    def busy(self) -> bool:
        """Whether a page may be waiting for what the loop answers."""
        return self._under_way is not None

    # What is asked for

    def asked(self, number: int, handle: int, offset: int, length: int, chunk_size: int) -> bool:
        """Part of a chunk was asked for: whether to hand over the whole of it now."""
        in_order = self._next.get(handle, 0) == offset
        self._next[handle] = offset + length
        if in_order:
            return False
        part = number << _INDEX_BITS | offset // chunk_size
        if part not in self._parts:
            if len(self._parts) >= _REMEMBERED:
                self._parts.clear()
            self._parts.add(part)
            return False
        if len(self._waiting) * chunk_size >= _WAITING_BYTES:
            return False
        self._parts.remove(part)
        return True

    def released(self, handle: int) -> None:
        """A handle was closed."""
        self._next.pop(handle, None)

    # What is handed over

    def hand_over(self, number: int, offset: int, content: bytes) -> None:
        """Soon. The caller counts a lookup, which is over when `arrived` says so."""
        with self._changed:
            self._serial += 1
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
        if self._under_way is None and not self._waiting:
            return 0
        with self._changed:
            for given in [given for given in self._waiting if given.number == number]:
                self._waiting.remove(given)
                self._arrived.append(number)
            under_way = self._under_way
            return under_way.serial if under_way and under_way.number == number else 0

    def withdraw_all(self) -> int:
        """As `withdraw`, of every file."""
        with self._changed:
            self._arrived.extend(given.number for given in self._waiting)
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
                self._under_way = None
                changed.notify_all()
                while not waiting:
                    if self._ended:
                        return
                    changed.wait()
                given = self._under_way = waiting.popleft()
            self._store(given.number, given.offset, given.content)
            self._arrived.append(given.number)
