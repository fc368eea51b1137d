"""POSIX semantics over a tree of encrypted files: synchronous, and ignorant of any FUSE library.

Plain values come in and go out: inode numbers, bytes, `Attributes`; whatever is refused is raised
and `errno_of` says as what. A transport translates and decides nothing. Everything runs on one
thread; only what `begin_fsync` returns may run on another. What files hold is contents.py's.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fsdriver import birthtime, control, listing, lookups
from fsdriver.attributes import Attributes
from fsdriver.changes import Changes, change
from fsdriver.contents import WRITING, Contents
from fsdriver.errors import CkfsError, refuse
from fsdriver.format.names import NAME_MAX
from fsdriver.incidents import Incidents
from fsdriver.locking import lock_site
from fsdriver.namespace import Caller
from fsdriver.renaming import Renaming
from fsdriver.reports import Reports
from fsdriver.syncing import Waiting, begin_all, begin_folder
from fsdriver.tree import Tree
from fsdriver.xattrs import ExtendedAttributes

if TYPE_CHECKING:
    from fsdriver.control import Control
    from fsdriver.folder import Site
    from fsdriver.inodes import Inode


class Filesystem(Contents):
    """The operations of one mount."""

    def __init__(
        self,
        tree: Tree,
        *,
        read_only: bool = False,
    ) -> None:
        super().__init__(tree, read_only=read_only)
        self._reports = Reports(tree.path_in_store)
        tree.report = self._reports.report
        self.control: Control | None = None
        """Answers for the mount itself, if there is one."""
        self._renaming = Renaming(tree, self._namespace)
        self._xattrs = ExtendedAttributes(tree)
        self._announced: tuple[Inode, bytes, Site] | None = None

    def errno_of(self, error: Exception, number: int = 0) -> int:
        """What the program gets for an error, after it is logged if it is the store's fault."""
        return self._reports.errno_of(error, self._tree.inodes.get(number))

    @property
    def chunk_size(self) -> int:
        """Bytes of plaintext in a chunk of every file."""
        return self._tree.geometry.chunk_size

    # Inodes and attributes

    def lookup(self, parent: int, name: bytes) -> Attributes:
        """Counts as one lookup; ENOENT when there is no such name."""
        return self._counted(*lookups.look_up(self._tree, self._inode(parent), name))

    def forget(self, number: int, count: int) -> None:
        """Take back `count` lookups."""
        inode = self._tree.inodes.forget(number, count)
        if inode is not None and inode.kind == stat.S_IFDIR:
            self._tree.discard(inode)

    def getattr(self, number: int) -> Attributes:
        """Size, mode, times."""
        inode = self._inode(number)
        return self._tree.attributes(inode, self._tree.status(inode))

    def birth_time_ns(self, number: int) -> int | None:
        """When it was made; None where the store's filesystem does not say."""
        return birthtime.birth_time_ns(self._tree, self._inode(number))

    def setattr(self, number: int, changes: Changes) -> Attributes:
        """chown, chmod, truncate and utimens in one; in this order, as the first undo the last."""
        self._require_writable()
        inode = self._inode(number)
        change(self._tree, inode, changes)
        return self._tree.attributes(inode, self._tree.status(inode))

    def readlink(self, number: int) -> bytes:
        """A symlink's target."""
        target, _bindings = self._tree.target(self._tree.place(self._inode(number)))
        return target

    def statfs(self) -> os.statvfs_result:
        """Of the filesystem that holds the store, but for the length of names."""
        root = self._tree.folder(self._tree.inodes.root)
        *status, _longest = self._tree.backing.statvfs(root.descriptor)
        return os.statvfs_result((*status, NAME_MAX))

    # Names

    def create(
        self, parent: int, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[Attributes, int]:
        """Make and open a file in one; counts as one lookup. EEXIST when the name is taken."""
        self._require_writable()
        inode, status = self._namespace.create(self._inode(parent), name, mode, caller)
        handle = self._open_handle(inode, writing=bool(flags & WRITING))
        return self._counted(inode, status), handle

    def mknod(self, parent: int, name: bytes, mode: int, device: int, caller: Caller) -> Attributes:
        """A file, FIFO, socket or device node; counts as one lookup."""
        self._require_writable()
        where = self._inode(parent)
        if stat.S_IFMT(mode) in (0, stat.S_IFREG):
            inode, _status = self._namespace.create(where, name, mode, caller)
            inode.lookups += 1
            self._tree.shut_if_unused(inode)
            return self._tree.attributes(inode, self._tree.status(inode))
        return self._counted(*self._namespace.make_node(where, name, mode, device, caller))

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Attributes:
        """A folder; counts as one lookup."""
        self._require_writable()
        where, site = self._inode(parent), None
        if self._announced is not None and self._announced[:2] == (where, name):
            site = self._announced[2]
        made = self._namespace.make_directory(where, name, mode, caller, site=site)
        if site is not None:
            self._announced = None
        return self._counted(*made)

    def announce_site(self, parent: int, name: bytes, site_id: bytes, caller: Caller) -> None:
        """The next mkdir of this name begins a site whose keys have just been made.

        An announcement, not the folder itself: the kernel must see the mkdir to know of it.
        """
        if caller.uid not in (0, os.geteuid()):
            raise refuse(errno.EPERM)
        self._announced = (self._inode(parent), name, self._tree.site(site_id))

    def site_of(self, number: int) -> bytes:
        """The id of the site that an inode belongs to."""
        return self._tree.site_of(self._inode(number))

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Attributes:
        """A symlink; counts as one lookup."""
        self._require_writable()
        made = self._namespace.make_symlink(self._inode(parent), name, target, caller)
        return self._counted(*made)

    def begin_link(self, number: int, parent: int, name: bytes) -> Waiting | None:
        """What has to be on the disk before `link`: to be waited for, on any thread."""
        self._require_writable()
        inode = self._inode(number)
        if inode in self._nameless.files:
            return self._nameless.begin_link(inode, self._inode(parent), name)
        return self._renaming.begin_link(inode, self._inode(parent), name)

    def link(self, number: int, parent: int, name: bytes) -> Attributes:
        """Another name, or the first one; counts as one lookup."""
        self._require_writable()
        inode = self._inode(number)
        if inode in self._nameless.files:
            return self._counted(inode, self._nameless.link(inode, self._inode(parent), name))
        return self._counted(inode, self._renaming.link(inode, self._inode(parent), name))

    def unlink(self, parent: int, name: bytes) -> None:
        """Remove a name that is no folder's."""
        self._require_writable()
        self._namespace.unlink(self._inode(parent), name)

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty folder."""
        self._require_writable()
        self._namespace.remove_directory(self._inode(parent), name)

    def begin_rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0
    ) -> Waiting | None:
        """What has to be on the disk before `rename`: to be waited for, on any thread."""
        self._require_writable()
        return self._renaming.begin_rename(
            self._inode(parent), name, self._inode(new_parent), new_name, flags
        )

    def rename(
        self,
        parent: int,
        name: bytes,
        new_parent: int,
        new_name: bytes,
        flags: int = 0,
        *,
        at_once: bool = False,
    ) -> None:
        """rename(2); flags as in renameat2(2).

        `at_once`: `begin_rename` was the last that was asked for, with the same arguments, and what
        it gave was waited for.
        """
        self._require_writable()
        self._renaming.rename(
            self._inode(parent), name, self._inode(new_parent), new_name, flags, at_once=at_once
        )

    # Folders

    def opendir(self, number: int) -> int:
        """A handle for reading a folder."""
        inode = self._inode(number)
        self._tree.folder(inode)
        return self._open_handle(inode)

    def readdir(self, handle: int, start: int) -> Iterator[tuple[bytes, Attributes, int]]:
        """(name, attributes, where to start for the next one), from `start` on.

        The listing is the one of the moment when it was begun; `start` 0 begins it anew. Nothing
        is counted as a lookup: the caller says `count_lookup` for each entry that it passes on.
        """
        opened = self._handles[handle]
        if opened.listing is None or start == 0:
            opened.listing = listing.begin(self._tree, opened.inode, self._reports)
        return listing.walk(self._tree, opened, start)

    def names(self, handle: int, start: int) -> Iterator[tuple[bytes, int, int, int]]:
        """(name, inode number, st_mode's type or 0, where to start for the next one).

        As `readdir`, for who wants names alone: nothing is looked at.
        """
        opened = self._handles[handle]
        if opened.listing is None or start == 0:
            opened.listing = listing.begin(self._tree, opened.inode, self._reports)
        return listing.names(self._tree, opened, start)

    def may_keep_listing(self, handle: int) -> bool:
        """Whether the kernel may answer from the listing that it was given last."""
        return listing.is_kept(self._tree, self._handles[handle].inode)

    def count_lookup(self, number: int) -> None:
        """An entry of a listing was handed to the kernel."""
        self._inode(number).lookups += 1

    def releasedir(self, handle: int) -> None:
        """The last close of a folder's handle."""
        del self._handles[handle]

    def begin_fsync_directory(self, handle: int) -> Callable[[], None]:
        """The result waits for the disk and may be called on another thread."""
        return begin_folder(self._tree, self._handles[handle].inode)

    # Extended attributes

    def getxattr(self, number: int, name: bytes) -> bytes:
        """ENODATA when there is none."""
        if self.control is not None and name.startswith(control.PREFIX):
            answer = self.control.get(number, name)
            if answer is not None:
                return answer
        return self._xattrs.get(self._inode(number), name)

    def setxattr(
        self, number: int, name: bytes, value: bytes, caller: Caller, flags: int = 0
    ) -> None:
        """EOPNOTSUPP for all but user.*."""
        self._require_writable()
        if (
            self.control is not None
            and name.startswith(control.PREFIX)
            and self.control.set(number, name, value, caller)
        ):
            return
        self._xattrs.set(self._inode(number), name, value, flags)

    def removexattr(self, number: int, name: bytes) -> None:
        """ENODATA when there is none."""
        self._require_writable()
        self._xattrs.remove(self._inode(number), name)

    def listxattr(self, number: int) -> list[bytes]:
        """Names."""
        return self._xattrs.names(self._inode(number))

    # The whole

    def begin_syncfs(self) -> Waiting:
        """Seal everything now; the result makes it durable, on any thread. Call it once."""
        return begin_all(self._tree)

    def idle(self) -> bool:
        """For a transport that waits: a bit of work ahead of time, some 30 us of it.

        False if there is none, until a file is made.
        """
        return not self._read_only and self._tree.session.fresh_keys.prepare()

    def lock_site(self, site_id: bytes) -> list[tuple[int, int, bytes]]:
        """A site's lease ended: drop its keys and plaintext.

        Returns (inode number, parent's number or 0, name) of everything that the kernel may still
        have cached of it.
        """
        return [
            known
            for inode in lock_site(self._tree, site_id)
            for known in [(inode.number, parent.number, name) for parent, name in inode.names()]
            or [(inode.number, 0, b"")]
        ]

    def backing_path(self, number: int) -> str:
        """Where an inode lies, relative to the store."""
        return self._tree.path_in_store(self._inode(number))

    @property
    def incidents(self) -> Incidents:
        """What the audit log is to get."""
        return self._reports.incidents

    def counts(self) -> dict[str, int]:
        """For status: what is known and open."""
        inodes = self._tree.inodes.all()
        return {
            "inodes": len(inodes),
            "open_files": sum(inode.open is not None for inode in inodes),
            "handles": len(self._handles),
        }

    def caches(self) -> dict[str, int]:
        """For status: what is kept for who asks next."""
        tree = self._tree
        return {
            "inodes": len(tree.inodes),
            "resting_files": len(tree.resting),
            "chunk_cache_bytes": tree.buffers.chunks.held,
            "names": tree.kept_names.held,
        }

    def close(self) -> None:
        """Seal every file that is still open, make all durable, and give every descriptor back.

        Raises OSError or StoreError when that failed: the session has then not ended.
        """
        for inode in self._tree.inodes.all():
            self._nameless.closed(inode)
            if inode.open is not None:
                try:
                    inode.open.seal()
                except (OSError, CkfsError) as error:
                    self._tree.session.unsealed.add(inode.open.file.file_id)
                    self._reports.report(inode, error)
        try:
            if self.checkpoints is not None:
                self.checkpoints.run()
        finally:
            self._tree.close()
            self._handles.clear()
