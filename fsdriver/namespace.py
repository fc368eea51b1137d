"""What makes and removes names; renaming.py moves them.

The order within each is what a stop in the middle leaves behind: a helper file before the name
that needs it, a hidden name for a folder that is not complete.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from fsdriver import lookups
from fsdriver.allocation import AllocatedFile
from fsdriver.errors import EntryMissing, refuse
from fsdriver.folder import (
    TEMPORARY,
    BackingName,
    Folder,
    Site,
    create_record,
    kind_of,
    temporary_name,
)
from fsdriver.format.directory import DirectoryRecord
from fsdriver.format.names import target_id
from fsdriver.inodes import Inode
from fsdriver.opener import Place
from fsdriver.sealedfile import SealedFile
from fsdriver.tree import Tree

SYMLINK_TEXT_MAX: Final = 4095
_PERMISSIONS: Final = 0o7777
_ROOTS: Final = (0, 0)


class Caller(NamedTuple):
    """On whose behalf something is made."""

    uid: int
    gid: int


class Namespace:
    """Changes to the names of one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._backing = tree.backing

    # Making

    def create(
        self, parent: Inode, name: bytes, mode: int, caller: Caller
    ) -> tuple[Inode, os.stat_result]:
        """A new empty file, left open in the inode; EEXIST when the name is taken."""
        tree = self._tree
        folder = tree.folder(parent)
        known = folder.backing_name(name)
        if known.sidecar:
            with folder.announced(self._backing, known):
                file, status = self._create(folder, known, mode, caller)
        else:
            file, status = self._create(folder, known, mode, caller)
        tree.made(parent, known.text, file.file_id)
        inode = tree.inodes.enter(status, parent, name)
        inode.made_in = tree.session.checkpoints_begun
        inode.open = AllocatedFile(file, tree.buffers, vetted=True)
        return inode, status

    def _create(
        self, folder: Folder, known: BackingName, mode: int, caller: Caller
    ) -> tuple[SealedFile, os.stat_result]:
        """The backing file, sealed as empty."""
        tree, backing = self._tree, self._backing
        descriptor = backing.create_file(folder.descriptor, known.text, mode & _PERMISSIONS)
        try:
            owner = self._owner_of_new(folder, caller)
            if owner is not None:
                self._give(owner, descriptor, mode)
            file = SealedFile.create(
                backing,
                descriptor,
                folder.site.lease,
                tree.session,
                tree.geometry.chunk_size,
                (known.binding,),
            )
            return file, backing.stat_open(descriptor)
        except BaseException:
            backing.close(descriptor)
            backing.unlink(folder.descriptor, known.text)
            raise

    def give(self, folder: Folder, caller: Caller, descriptor: int, mode: int) -> None:
        """A new file to whom it is to belong."""
        owner = self._owner_of_new(folder, caller)
        if owner is not None:
            self._give(owner, descriptor, mode)

    def _give(self, owner: Caller, descriptor: int, mode: int) -> None:
        """Hand what root's driver made to the program's user, who asked for it."""
        self._backing.change_open_owner(descriptor, *owner)
        if mode & (stat.S_ISUID | stat.S_ISGID):
            self._backing.change_open_mode(descriptor, stat.S_IMODE(mode))

    def _owner_of_new(self, folder: Folder, caller: Caller) -> Caller | None:
        """Whose a new entry is to be; None where it is theirs already. Group -1 is inherited."""
        if caller == _ROOTS or os.geteuid() != 0:
            return None
        inherits = self._backing.stat_open(folder.descriptor).st_mode & stat.S_ISGID
        return caller._replace(gid=-1) if inherits else caller

    def make_node(
        self, parent: Inode, name: bytes, mode: int, device: int, caller: Caller
    ) -> tuple[Inode, os.stat_result]:
        """A FIFO, socket or device node."""

        def make(folder: Folder, known: BackingName) -> bytes:
            self._backing.make_node(folder.descriptor, known.text, mode, device)
            return b""

        return self._make(parent, name, caller, make)

    def make_symlink(
        self, parent: Inode, name: bytes, target: bytes, caller: Caller
    ) -> tuple[Inode, os.stat_result]:
        """ENAMETOOLONG for a target whose ciphertext no symlink can hold (over 3,021 bytes)."""

        def make(folder: Folder, known: BackingName) -> bytes:
            text = folder.site.names.encrypt_target(target, (known.binding,))
            if len(text) > SYMLINK_TEXT_MAX:
                raise refuse(errno.ENAMETOOLONG)
            self._backing.make_symlink(folder.descriptor, known.text, text)
            return target_id(text)

        return self._make(parent, name, caller, make)

    def _make(
        self,
        parent: Inode,
        name: bytes,
        caller: Caller,
        make: Callable[[Folder, BackingName], bytes],
    ) -> tuple[Inode, os.stat_result]:
        folder, backing = self._tree.folder(parent), self._backing
        known = folder.backing_name(name)
        with folder.announced(backing, known):
            object_id = make(folder, known)
        self._tree.made(parent, known.text, object_id)
        status = backing.stat(folder.descriptor, known.text)
        owner = self._owner_of_new(folder, caller)
        if owner is not None:
            backing.change_owner(folder.descriptor, known.text, *owner)
            status = backing.stat(folder.descriptor, known.text)
        return self._tree.inodes.enter(status, parent, name), status

    def make_directory(
        self,
        parent: Inode,
        name: bytes,
        mode: int,
        caller: Caller,
        *,
        site: Site | None = None,
    ) -> tuple[Inode, os.stat_result]:
        """A new folder; it gets its name once its record lies in it.

        With `site`, the folder where that site begins: everything below belongs to it.
        """
        folder, backing = self._tree.folder(parent), self._backing
        known = folder.backing_name(name)
        with suppress(FileNotFoundError):
            backing.stat(folder.descriptor, known.text)
            raise refuse(errno.EEXIST)
        temporary = temporary_name()
        backing.make_directory(folder.descriptor, temporary, mode | 0o700)
        descriptor = backing.open_directory(folder.descriptor, temporary)
        try:
            home = site or folder.site
            directory_id = site.lease.root_directory_id if site else os.urandom(16)
            record = DirectoryRecord(directory_id, home.lease.site_id, 1, (known.binding,))
            create_record(backing, descriptor, record, home)
            status = backing.stat_open(descriptor)
            wanted = stat.S_IMODE(mode) | (status.st_mode & stat.S_ISGID)
            owner = self._owner_of_new(folder, caller)
            if owner is not None:
                backing.change_open_owner(descriptor, *owner)
            if stat.S_IMODE(status.st_mode) != wanted:
                backing.change_open_mode(descriptor, wanted)
            with folder.announced(backing, known):
                backing.rename(folder.descriptor, temporary, folder.descriptor, known.text)
            self._tree.expectations.made_folder(record)
            self._tree.made(parent, known.text, directory_id)
            status = backing.stat_open(descriptor)
        except BaseException:
            self._sweep(folder, temporary)
            raise
        finally:
            backing.close(descriptor)
        return self._tree.inodes.enter(status, parent, name), status

    # Removing

    def unlink(self, parent: Inode, name: bytes) -> None:
        """Remove a name; a file that is open lives on without one.

        The other links of a file stay bound to this one, too: a header without it might reach the
        disk before the removal does, and the name would then be refused.
        """
        try:
            place, status, _foreign = lookups.find(self._tree, parent, name)
        except EntryMissing:
            self._accept_loss(parent, name)
            return
        if kind_of(status) == stat.S_IFDIR:
            raise refuse(errno.EISDIR)
        inode = self._tree.inodes.find(status)
        folder, known = place
        self._backing.unlink(folder.descriptor, known.text)
        self._tree.removed(parent, known.text)
        if known.sidecar:
            folder.remove_sidecar(self._backing, known)
        self.gone(inode, status, parent, name)

    def _accept_loss(self, parent: Inode, name: bytes) -> None:
        """Whoever removes what was deleted in the store has seen that it is gone."""
        self._tree.removed(parent, self._tree.folder(parent).backing_name(name).text)

    def gone(self, inode: Inode | None, status: os.stat_result, parent: Inode, name: bytes) -> None:
        if inode is None:
            if status.st_nlink <= 1:
                self._tree.resting.drop(self._tree.inodes.key_of(status))
            return
        inode.remove_name(parent, name)
        if status.st_nlink <= 1 or kind_of(status) == stat.S_IFDIR:
            self._tree.orphan(inode)

    def remove_directory(self, parent: Inode, name: bytes) -> None:
        """ENOTEMPTY unless only the driver's own files are left in it."""
        try:
            place, status, foreign = lookups.find(self._tree, parent, name)
        except EntryMissing:
            self._accept_loss(parent, name)
            return
        if kind_of(status) != stat.S_IFDIR:
            raise refuse(errno.ENOTDIR)
        if foreign:
            self._backing.remove_directory(place.folder.descriptor, place.name.text)
        else:
            self.require_empty(place)
            self.take_away(place)
            self._tree.removed(parent, place.name.text)
        self.gone(self._tree.inodes.find(status), status, parent, name)

    def require_empty(self, place: Place) -> None:
        descriptor = self._backing.open_directory(place.folder.descriptor, place.name.text)
        try:
            # Only names are looked at, so that a folder with a damaged record can be removed.
            inner = Folder(
                descriptor,
                place.folder.site,
                place.folder.record,
                plaintext_names=place.folder.plaintext_names,
            )
            if not inner.is_empty(self._backing):
                raise refuse(errno.ENOTEMPTY)
        finally:
            self._backing.close(descriptor)

    def take_away(self, place: Place) -> None:
        """Hide an empty folder in one step, then take it apart."""
        temporary = temporary_name()
        descriptor = place.folder.descriptor
        self._backing.rename(descriptor, place.name.text, descriptor, temporary)
        place.folder.remove_sidecar(self._backing, place.name)
        self._sweep(place.folder, temporary)

    def _sweep(self, folder: Folder, temporary: str) -> None:
        """Remove a hidden folder and the driver's own files in it."""
        backing = self._backing
        with suppress(OSError):
            descriptor = backing.open_directory(folder.descriptor, temporary)
            try:
                for text, kind in list(backing.entries(descriptor)):
                    if kind != stat.S_IFDIR:
                        backing.unlink(descriptor, text)
                    elif text.startswith(TEMPORARY):
                        backing.remove_directory(descriptor, text)
            finally:
                backing.close(descriptor)
            backing.remove_directory(folder.descriptor, temporary)
