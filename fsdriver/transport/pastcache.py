"""Which writes go past the kernel's page cache, and where it may hold pages all the same.

Who makes a file and may only write to it has no use for its pages. Kept out of the cache
(FOPEN_DIRECT_IO), a new small file costs a fifth less: no page is made, and the kernel does not ask
for the attribute that it has to know before its first write to a cached file. The price is that
whoever reads the file later in this mount asks the driver.

Somebody else may open the file while it is written, and the pages that the kernel then keeps for
them know nothing of such a write. They have to be forgotten before the write is answered. Before
the write the kernel does so itself, with what was changed in a mapped page, from Linux 6.6 on: it
says so by FUSE_DIRECT_IO_ALLOW_MMAP. With an older one all writes go through the cache.
"""

import os

from fsdriver.transport.protocol import FOPEN_DIRECT_IO


class PastCache:
    """Of one mount."""

    __slots__ = ("_handles", "flag", "seen")

    def __init__(self) -> None:
        self._handles: dict[int, int] = {}
        """Inode number -> the handle that the file was made with."""
        self.flag = 0
        """FOPEN_DIRECT_IO once that is allowed."""
        self.seen: set[int] = set()
        """Handles of files of which the kernel may hold pages."""

    def made(self, number: int, handle: int, flags: int) -> int:
        """A new file was opened with open(2)'s `flags`: what to open it with here."""
        if not self.flag or flags & os.O_ACCMODE != os.O_WRONLY:
            return 0
        self._handles[number] = handle
        return self.flag

    def allow(self) -> None:
        """The kernel passes every write on at once, and minds mapped pages."""
        self.flag = FOPEN_DIRECT_IO

    def opened(self, number: int) -> None:
        """A file was opened once more."""
        handle = self._handles.get(number)
        if handle is not None:
            self.seen.add(handle)

    def released(self, number: int, handle: int) -> None:
        """A handle was closed."""
        if self._handles.get(number) == handle:
            del self._handles[number]
            self.seen.discard(handle)
