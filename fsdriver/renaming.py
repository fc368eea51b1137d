"""What gives an existing file, symlink or folder another name: rename and link.

Each is sealed to the names it lies under (FORMAT.md section 3). So a rename makes it valid under
both names first and then renames in one step; a stop anywhere in between leaves it readable.
Sites are borders: nothing is renamed or linked across one (EXDEV).
"""

import errno
import os
import stat
from contextlib import suppress

from fsdriver.backing import RENAME_EXCHANGE, RENAME_NOREPLACE
from fsdriver.errors import refuse
from fsdriver.folder import BackingName, kind_of, temporary_name
from fsdriver.inodes import Inode
from fsdriver.namespace import Namespace
from fsdriver.tree import Place, Tree


class Renaming:
    """Moves names within one tree."""

    def __init__(self, tree: Tree, namespace: Namespace) -> None:
        self._tree = tree
        self._backing = tree.backing
        self._namespace = namespace

    def link(self, inode: Inode, parent: Inode, name: bytes) -> os.stat_result:
        """One more name for a file or symlink."""
        folder, backing = self._tree.folder(parent), self._backing
        known = folder.backing_name(name)
        place = self._tree.place(inode)
        if folder.site.lease.site_id != place.folder.site.lease.site_id:
            raise refuse(errno.EXDEV)
        if inode.kind == stat.S_IFDIR or inode.foreign:
            raise refuse(errno.EPERM)
        with suppress(FileNotFoundError):
            backing.stat(folder.descriptor, known.text)
            raise refuse(errno.EEXIST)
        if inode.kind == stat.S_IFREG:
            with self._tree.sealed(inode, writable=True) as file:
                if not file.state.unbound:
                    file.rebind((*file.state.bindings, known.binding))
        elif inode.kind == stat.S_IFLNK and self._tree.target(place)[1]:
            # One that lost a link, or whose rename was interrupted, has two bindings still.
            single = backing.stat(place.folder.descriptor, place.name.text).st_nlink == 1
            more = (place.name.binding, known.binding)
            self._retarget(inode, place, more if single else ())
        with folder.announced(backing, known):
            backing.link(place.folder.descriptor, place.name.text, folder.descriptor, known.text)
        inode.add_name(parent, name)
        return backing.stat(folder.descriptor, known.text)

    def rename(
        self, parent: Inode, name: bytes, new_parent: Inode, new_name: bytes, flags: int
    ) -> None:
        """rename(2) with RENAME_NOREPLACE and RENAME_EXCHANGE."""
        if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
            raise refuse(errno.EINVAL)
        tree, backing = self._tree, self._backing
        source, status, foreign = tree.find(parent, name)
        folder = tree.folder(new_parent)
        target = Place(folder, folder.backing_name(new_name))
        if foreign or folder.site.lease.site_id != source.folder.site.lease.site_id:
            raise refuse(errno.EXDEV)
        try:
            replaced = backing.stat(folder.descriptor, target.name.text)
        except FileNotFoundError:
            replaced = None
        moved = tree.inodes.enter(status, parent, name)
        victim = None if replaced is None else tree.inodes.enter(replaced, new_parent, new_name)
        try:
            if flags == RENAME_EXCHANGE:
                if replaced is None or victim is None:
                    raise refuse(errno.ENOENT)
                self._exchange(source, moved, target, victim)
                _swap_names(moved, (parent, name), victim, (new_parent, new_name))
                return
            if replaced is not None and victim is not None:
                if flags == RENAME_NOREPLACE:
                    raise refuse(errno.EEXIST)
                if moved is victim:
                    return
                self._check_replace(status, replaced, target)
            self._move(source, moved, target, replaced)
            moved.remove_name(parent, name)
            moved.add_name(new_parent, new_name)
            if replaced is not None:
                self._namespace.gone(victim, replaced, new_parent, new_name)
        finally:
            for inode in (moved, victim):
                if inode is not None and tree.inodes.drop_if_unused(inode) is not None:
                    tree.discard(inode)

    def _check_replace(
        self, status: os.stat_result, replaced: os.stat_result, target: Place
    ) -> None:
        if kind_of(replaced) == stat.S_IFDIR:
            if kind_of(status) != stat.S_IFDIR:
                raise refuse(errno.EISDIR)
            self._namespace.require_empty(target)
        elif kind_of(status) == stat.S_IFDIR:
            raise refuse(errno.ENOTDIR)

    def _move(
        self, source: Place, moved: Inode, target: Place, replaced: os.stat_result | None
    ) -> None:
        backing = self._backing
        self._loosen(source, moved, target.name)
        names = (source.folder.descriptor, source.name.text)
        new_names = (target.folder.descriptor, target.name.text)
        if replaced is not None and kind_of(replaced) == stat.S_IFDIR:
            # An empty folder of ours still has its record, which rename(2) takes for content.
            backing.rename(*names, *new_names, RENAME_EXCHANGE)
            self._namespace.take_away(source)
        else:
            with target.folder.announced(backing, target.name):
                backing.rename(*names, *new_names)
            if target.name.text != source.name.text or source.folder is not target.folder:
                source.folder.remove_sidecar(backing, source.name)
        self._tighten(target, moved)

    def _exchange(self, source: Place, moved: Inode, target: Place, victim: Inode) -> None:
        self._loosen(source, moved, target.name)
        self._loosen(target, victim, source.name)
        self._backing.rename(
            source.folder.descriptor,
            source.name.text,
            target.folder.descriptor,
            target.name.text,
            RENAME_EXCHANGE,
        )
        self._tighten(target, moved)
        self._tighten(source, victim)

    def _loosen(self, place: Place, inode: Inode, new_name: BackingName) -> None:
        """Before a rename: valid under the old name and under the new one."""
        if inode.kind == stat.S_IFREG:
            with self._tree.sealed(inode, writable=True) as file:
                if not file.state.unbound:
                    single = self._backing.stat_open(file.descriptor).st_nlink == 1
                    kept = (place.name.binding,) if single else file.state.bindings
                    file.rebind((*kept, new_name.binding))
        elif inode.kind == stat.S_IFDIR:
            folder = self._tree.folder(inode)
            folder.rebind(self._backing, (place.name.binding, new_name.binding))
        elif inode.kind == stat.S_IFLNK and self._tree.target(place)[1]:
            self._retarget(inode, place, (place.name.binding, new_name.binding))

    def _tighten(self, place: Place, inode: Inode) -> None:
        """After a rename: a symlink is valid under the new name only.

        A file or a folder stays valid under the old one until its next rename. Its header would
        have to be written once more, and after a power cut that may be in the store while the
        rename is not; a symlink's text and its name are ordered by the same journal.
        """
        if inode.kind == stat.S_IFLNK and self._tree.target(place)[1]:
            self._retarget(inode, place, (place.name.binding,))

    def _retarget(self, inode: Inode, place: Place, bindings: tuple[bytes, ...]) -> None:
        """Write a symlink anew, in one step; of several links this one becomes its own."""
        backing, folder = self._backing, place.folder
        target, bound = self._tree.target(place)
        if bound == bindings:
            return
        status = backing.stat(folder.descriptor, place.name.text)
        temporary = temporary_name()
        text = folder.site.names.encrypt_target(target, bindings)
        backing.make_symlink(folder.descriptor, temporary, text)
        try:
            if os.geteuid() == 0:
                backing.change_owner(folder.descriptor, temporary, status.st_uid, status.st_gid)
            backing.change_times(
                folder.descriptor, temporary, status.st_atime_ns, status.st_mtime_ns
            )
            new_status = backing.stat(folder.descriptor, temporary)
            backing.rename(folder.descriptor, temporary, folder.descriptor, place.name.text)
        except BaseException:
            backing.unlink(folder.descriptor, temporary)
            raise
        if status.st_nlink == 1:
            self._tree.inodes.replace_key(inode, new_status)
        else:
            self._tree.inodes.orphan(inode)


def _swap_names(
    first: Inode, first_at: tuple[Inode, bytes], second: Inode, second_at: tuple[Inode, bytes]
) -> None:
    first.remove_name(*first_at)
    second.remove_name(*second_at)
    first.add_name(*second_at)
    second.add_name(*first_at)
