"""The operations on what files hold: open, read, write, sync, close.

Handles in, plain values out, errors with an errno. All of it runs on the thread that serves the
mount; only what `begin_fsync` returns may run on another.
"""

import errno
import os
from collections.abc import Callable
from typing import Final

from fsdriver.errors import refuse
from fsdriver.served import Served
from fsdriver.syncing import begin_file

WRITING: Final = os.O_WRONLY | os.O_RDWR


class Contents(Served):
    """Of one mount."""

    def open(self, number: int, flags: int) -> int:
        """A handle; O_TRUNC is honoured, O_APPEND is the kernel's to resolve."""
        inode = self._inode(number)
        writing = bool(flags & WRITING)
        if writing or flags & os.O_TRUNC:
            self._require_writable()
        content = self._tree.open_content(inode, writable=writing)
        handle = self._open_handle(inode, writing=writing)
        if flags & os.O_TRUNC:
            try:
                content.truncate(0)
            except BaseException:
                self.release(handle)
                raise
        return handle

    def may_keep_cache(self, handle: int) -> bool:
        """Whether the kernel may answer from pages of an earlier open of the same file.

        A chunk put back to an older version is found when the whole file was read, and what is
        answered from the cache is not read here: so the cache goes until that was done once.
        """
        inode = self._handles[handle].inode
        return inode.vetted or (inode.open is not None and inode.open.vetted)

    def read(self, handle: int, offset: int, length: int) -> memoryview | bytes:
        """Valid until the next call of any operation."""
        content = self._handles[handle].inode.open
        if content is None:
            raise refuse(errno.EBADF)
        return content.read(offset, length)

    def write(self, handle: int, offset: int, data: bytes | memoryview) -> int:
        """All of it, or an error."""
        opened = self._handles[handle]
        content = opened.inode.open
        if content is None or not opened.writing:
            raise refuse(errno.EBADF)
        return content.write(offset, data)

    @property
    def crowded(self) -> bool:
        """Whether the answer to a write should wait for a checkpoint that is under way."""
        return self.checkpoints is not None and self.checkpoints.crowded

    def flush(self, handle: int) -> None:
        """At every close(2) of a descriptor: what fails here, the program still hears of."""
        content = self._handles[handle].inode.open
        if content is not None:
            content.seal()

    def release(self, handle: int) -> None:
        """The last close of a handle."""
        inode = self._handles.pop(handle).inode
        if inode.open is not None:
            inode.open.handles -= 1
            self._tree.shut_if_unused(inode)

    def begin_fsync(self, handle: int, *, data_only: bool) -> Callable[[], None]:
        """Seal now; the result waits for the disk and may be called on another thread."""
        opened = self._handles[handle]
        content = opened.inode.open
        if content is None:
            raise refuse(errno.EBADF)
        return begin_file(self._tree, opened.inode, content, data_only=data_only)
