"""The operations on what files hold: open, read, write, allocate, copy, sync, close.

Handles in, plain values out, errors with an errno. All of it runs on the thread that serves the
mount; only what `begin_fsync` returns may run on another.
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from fsdriver import copying, seeking
from fsdriver.allocation import AllocatedFile
from fsdriver.attributes import Attributes
from fsdriver.changes import drop_set_ids
from fsdriver.errors import CkfsError, refuse
from fsdriver.inodes import Inode
from fsdriver.namespace import Caller
from fsdriver.served import Served
from fsdriver.syncing import begin_file
from keyhierarchy.errors import KeyHierarchyError

WRITING: Final = os.O_WRONLY | os.O_RDWR

KEEP_SIZE: Final = 1
PUNCH_HOLE: Final = 2
ZERO_RANGE: Final = 16
"""Modes of fallocate(2)."""


class Contents(Served):
    """Of one mount."""

    def open(self, number: int, flags: int, kill_priv: bool = False) -> int:
        """A handle. O_TRUNC is honoured, and then set-id bits go if the kernel says so.

        O_APPEND is the kernel's to resolve, O_DIRECT and O_NOATIME ask for nothing here.
        """
        inode = self._inode(number)
        writing, truncates = bool(flags & WRITING), bool(flags & os.O_TRUNC)
        if writing or truncates:
            self._require_writable()
        content = self._tree.open_content(inode, writable=writing or truncates)
        handle = self._open_handle(inode, writing=writing)
        if truncates:
            try:
                if kill_priv and not content.lacks_set_ids:
                    self._drop_set_ids(inode, content)
                content.truncate(0)
            except BaseException:
                self.release(handle)
                raise
        return handle

    def tmpfile(self, parent: int, mode: int, flags: int, caller: Caller) -> tuple[Attributes, int]:
        """O_TMPFILE: an open file that has no name until `link`; counts as one lookup."""
        self._require_writable()
        inode, status = self._nameless.create(self._inode(parent), mode, caller)
        handle = self._open_handle(inode, writing=bool(flags & WRITING))
        return self._counted(inode, status), handle

    def may_keep_cache(self, handle: int) -> bool:
        """Whether the kernel may answer from pages of an earlier open of the same file.

        A chunk put back to an older version is found when the whole file was read, and what is
        answered from the cache is not read here: so the cache goes until that was done once.
        """
        inode = self._handles[handle].inode
        return inode.vetted or (inode.open is not None and inode.open.vetted)

    def read_ahead(self, handle: int) -> None:
        """For a transport that waits, of a file that was just opened: some 50 us of work."""
        opened = self._handles.get(handle)
        if opened is not None and opened.inode.open is not None:
            with suppress(OSError, CkfsError, KeyHierarchyError):  # whoever reads it is told
                opened.inode.open.read_ahead()

    def read(self, handle: int, offset: int, length: int) -> memoryview | bytes:
        """Valid until the next call of any operation."""
        content = self._handles[handle].inode.open
        if content is None:
            raise refuse(errno.EBADF)
        return content.read(offset, length)

    def settled_chunk(self, handle: int, offset: int, most: int) -> bytes | None:
        """The whole chunk of what was read last, if nobody has the file open for writing.

        And only of a file of no more than `most` chunks.
        """
        content = self._handles[handle].inode.open
        if (
            content is None
            or content.writers
            or content.size > most * content.file.geometry.chunk_size
        ):
            return None
        return content.kept_chunk(offset)

    def write(
        self, handle: int, offset: int, data: bytes | memoryview, kill_priv: bool = False
    ) -> int:
        """All of it, or an error. Set-id bits go first if the kernel says so."""
        opened = self._handles[handle]
        content = opened.inode.open
        if content is None or not opened.writing:
            raise refuse(errno.EBADF)
        if kill_priv and not content.lacks_set_ids:
            self._drop_set_ids(opened.inode, content)
        return content.write(offset, data)

    def _drop_set_ids(self, inode: Inode, content: AllocatedFile) -> None:
        if drop_set_ids(self._tree, inode):
            self.set_ids_dropped(inode.number)
        content.lacks_set_ids = True

    def _content(self, handle: int, *, writing: bool) -> AllocatedFile:
        opened = self._handles[handle]
        if opened.inode.open is None or (writing and not opened.writing):
            raise refuse(errno.EBADF)
        return opened.inode.open

    def fallocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        """fallocate(2), but for moving content (COLLAPSE_RANGE, INSERT_RANGE): EOPNOTSUPP."""
        content = self._content(handle, writing=True)
        if offset < 0 or length <= 0:
            raise refuse(errno.EINVAL)
        grows = not mode & KEEP_SIZE
        what = mode & ~KEEP_SIZE
        if what == PUNCH_HOLE and not grows:
            content.punch(offset, length)
        elif what == ZERO_RANGE:
            content.zero(offset, length, grows=grows)
        elif not what:
            content.reserve(offset, length, grows=grows)
        else:
            raise refuse(errno.EOPNOTSUPP)

    def lseek(self, handle: int, offset: int, whence: int) -> int:
        """SEEK_DATA and SEEK_HOLE, by the chunk; ENXIO behind the end."""
        return seeking.seek(self._content(handle, writing=False).file, offset, whence)

    def copy_file_range(
        self, handle_in: int, offset_in: int, handle_out: int, offset_out: int, length: int
    ) -> int:
        """A part of it, a few MiB at most; 0 at the end of the source. EINVAL for an overlap."""
        source = self._content(handle_in, writing=False)
        target = self._content(handle_out, writing=True)
        return copying.copy(source, offset_in, target, offset_out, length)

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
        closed = self._handles.pop(handle)
        inode = closed.inode
        if inode.open is not None:
            inode.open.handles -= 1
            inode.open.writers -= closed.writing
            try:
                self._tree.shut_if_unused(inode)
            finally:
                if self._nameless.files and inode.open is None:
                    self._nameless.closed(inode)

    def begin_fsync(self, handle: int, *, data_only: bool) -> Callable[[], None]:
        """Seal now; the result waits for the disk and may be called on another thread."""
        opened = self._handles[handle]
        content = opened.inode.open
        if content is None:
            raise refuse(errno.EBADF)
        return begin_file(self._tree, opened.inode, content, data_only=data_only)
