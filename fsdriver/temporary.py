"""Files that have no name yet: O_TMPFILE, and the link that gives one its first name.

In the store they have no name either, where its filesystem has such files; elsewhere they have a
hidden one, which goes when the file is closed and which a stop leaves behind to be swept away
(tree.py). Such a file is bound to no name, so nobody could open it by one.
"""

import errno
import os
import stat
from contextlib import suppress
from typing import Final, NamedTuple

from fsdriver.allocation import AllocatedFile
from fsdriver.errors import CkfsError, refuse
from fsdriver.folder import Folder, temporary_name
from fsdriver.inodes import Inode
from fsdriver.namespace import Caller, Namespace
from fsdriver.rebinding import rebind
from fsdriver.sealedfile import SealedFile
from fsdriver.syncing import Waiting, begin_header
from fsdriver.tree import Tree

_NO_SUCH_FILES: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
"""What filesystems say that have no files without a name."""


class Hidden(NamedTuple):
    """The name that a file has in the store meanwhile."""

    parent: Inode
    text: str


class Nameless:
    """Of one mount."""

    def __init__(self, tree: Tree, namespace: Namespace) -> None:
        self._tree = tree
        self._backing = tree.backing
        self._namespace = namespace
        self.files: dict[Inode, Hidden | None] = {}
        """Those that never had a name, and what they are called in the store."""

    def create(self, parent: Inode, mode: int, caller: Caller) -> tuple[Inode, os.stat_result]:
        """A new empty file, left open in the inode, on the site of the folder."""
        tree, backing = self._tree, self._backing
        folder = tree.folder(parent)
        descriptor, hidden = self._make(parent, folder, stat.S_IMODE(mode))
        try:
            self._namespace.give(folder, caller, descriptor, mode)
            file = SealedFile.create(
                backing,
                descriptor,
                folder.site.lease,
                tree.session,
                tree.geometry.chunk_size,
                (),
            )
            status = backing.stat_open(descriptor)
        except BaseException:
            backing.close(descriptor)
            self._remove(hidden)
            raise
        tree.expectations.made_nameless(file.file_id)
        inode = tree.inodes.enter_nameless(status)
        inode.open = AllocatedFile(file, tree.buffers, vetted=True)
        self.files[inode] = hidden
        return inode, status

    def _make(self, parent: Inode, folder: Folder, mode: int) -> tuple[int, Hidden | None]:
        try:
            return self._backing.create_nameless(folder.descriptor, mode), None
        except OSError as error:
            if error.errno not in _NO_SUCH_FILES:
                raise
        hidden = Hidden(parent, temporary_name())
        return self._backing.create_file(folder.descriptor, hidden.text, mode), hidden

    def _remove(self, hidden: Hidden | None) -> None:
        if hidden is not None:
            with suppress(OSError, CkfsError):  # the folder may have gone, and all in it
                folder = self._tree.folder(hidden.parent)
                self._backing.unlink(folder.descriptor, hidden.text)

    def begin_link(self, inode: Inode, parent: Inode, name: bytes) -> Waiting | None:
        """What `link` has to wait for, if anything; on any thread."""
        tree = self._tree
        folder = tree.folder(parent)
        known = folder.backing_name(name)
        with suppress(FileNotFoundError):
            self._backing.stat(folder.descriptor, known.text)
            raise refuse(errno.EEXIST)
        with tree.sealed(inode, writable=True) as file:
            if file.lease.site_id != folder.site.lease.site_id:
                raise refuse(errno.EXDEV)
            if file.state.dirty or file.state.bindings != (known.binding,):
                rebind(file, (known.binding,))
            if inode.synced >= file.state.generation:
                return None
            return begin_header(tree, inode, file, data_only=True)

    def link(self, inode: Inode, parent: Inode, name: bytes) -> os.stat_result:
        """Its first name, which appears once the file is on the disk and bound to it."""
        wait = self.begin_link(inode, parent, name)
        if wait is not None:
            wait()
        tree, backing = self._tree, self._backing
        folder = tree.folder(parent)
        known = folder.backing_name(name)
        hidden = self.files[inode]
        with tree.sealed(inode, writable=True) as file, folder.announced(backing, known):
            if hidden is None:
                backing.link_open(file.descriptor, folder.descriptor, known.text)
            else:
                place = tree.folder(hidden.parent).descriptor
                backing.link(place, hidden.text, folder.descriptor, known.text)
        del self.files[inode]
        tree.made(parent, known.text, file.file_id)
        self._remove(hidden)
        status = backing.stat(folder.descriptor, known.text)
        tree.inodes.replace_key(inode, status)
        inode.add_name(parent, name)
        return status

    def closed(self, inode: Inode) -> None:
        """Its last handle is gone; without a name it is gone, too."""
        if inode in self.files:
            self._remove(self.files.pop(inode))
