"""From a name in a folder to what is there: the one way by which a name becomes an inode's."""

import errno
import os
import stat

from fsdriver.errors import Damaged, EntryMissing, HeaderInvalid, refuse
from fsdriver.folder import FOREIGN_SUFFIX, BackingName, Folder, Listed, foreign_name, kind_of
from fsdriver.inodes import Inode
from fsdriver.opener import Place
from fsdriver.tree import Tree

_FOREIGN = BackingName("", bytes(16))


def enter_listed(
    tree: Tree, parent: Inode, folder: Folder, listed: Listed, status: os.stat_result
) -> Inode:
    """The inode of an entry of a listing; the caller counts the lookup."""
    if listed.foreign:
        place = Place(folder, _FOREIGN._replace(text=listed.text))
    elif status.st_nlink == 1:
        # Nobody asks for its place, and to encrypt its name once more costs as much as the rest.
        return tree.inodes.enter(status, parent, listed.name)
    else:
        place = Place(folder, folder.backing_name(listed.name))
    return enter(tree, parent, listed.name, place, status, foreign=listed.foreign)


def find(tree: Tree, parent: Inode, name: bytes) -> tuple[Place, os.stat_result, bool]:
    """The place and status of a name, and whether it is foreign; raises ENOENT and others."""
    folder = tree.folder(parent)
    try:
        known = folder.backing_name(name)
    except PermissionError:
        raise refuse(errno.ENOENT) from None
    try:
        status = tree.backing.stat(folder.descriptor, known.text)
        return Place(folder, known), status, False
    except FileNotFoundError:
        tree.expectations.miss(folder, known.text)
        if not name.endswith(FOREIGN_SUFFIX):
            raise
        text = _foreign_text(tree, folder, name)
        place = Place(folder, _FOREIGN._replace(text=text))
        return place, tree.backing.stat(folder.descriptor, text), True


def _foreign_text(tree: Tree, folder: Folder, name: bytes) -> str:
    listed, _reasons = folder.listing(tree.backing)
    for entry in listed:
        if entry.foreign and foreign_name(entry.text) == name:
            return entry.text
    raise refuse(errno.ENOENT)


def look_up(tree: Tree, parent: Inode, name: bytes) -> tuple[Inode, os.stat_result]:
    """The inode of a name; the caller counts the lookup. Raises ENOENT and others."""
    if name in (b".", b".."):
        inode = parent if name == b"." or parent.parent is None else parent.parent
        return inode, tree.status(inode)
    try:
        place, status, foreign = find(tree, parent, name)
    except EntryMissing as error:
        inode = tree.inodes.enter_refused(parent, name, error)
        tree.report(inode, error)
        return inode, tree.status(tree.inodes.root)
    inode = enter(tree, parent, name, place, status, foreign=foreign)
    if foreign:
        strange = HeaderInvalid("this entry was not written by ckfs: it is foreign")
        tree.report(inode, tree.expectations.strangeness_of(place.folder, place.name.text, strange))
    return inode, status


def enter(
    tree: Tree, parent: Inode, name: bytes, place: Place, status: os.stat_result, *, foreign: bool
) -> Inode:
    """The inode of a name that is there; the caller counts the lookup.

    One of several links has to be met as itself: what is opened by one name would otherwise
    be given to all, and whoever owns the store can make a link.
    """
    kind = kind_of(status)
    if status.st_nlink > 1 and kind in (stat.S_IFREG, stat.S_IFLNK):
        known = tree.inodes.find(status)
        if known is None or (parent, name) not in known.names():
            try:
                _require_own(tree, known, parent, name, place, status, foreign=foreign)
            except Damaged as error:
                refused = tree.inodes.enter_refused(parent, name, error)
                tree.report(refused, error)
                return refused
    inode = tree.inodes.enter(status, parent, name)
    if foreign:
        inode.foreign = place.name.text
    return inode


def _require_own(
    tree: Tree,
    known: Inode | None,
    parent: Inode,
    name: bytes,
    place: Place,
    status: os.stat_result,
    *,
    foreign: bool,
) -> None:
    """Raises a Damaged error for a link that ckfs did not make."""
    if foreign:
        raise HeaderInvalid("this entry is another file's by a link that ckfs did not make")
    if kind_of(status) == stat.S_IFLNK:
        tree.target(place)
    elif known is not None and known.open is not None:
        file = known.open.file
        file.check_binding(place.name.binding)
        taken = tree.expectations.meet(place.folder, place.name.text, file.file_id, linked=True)
        if taken is not None:
            tree.report(known, taken)
    else:
        probe = Inode(0, tree.inodes.key_of(status), stat.S_IFREG)
        probe.add_name(parent, name)
        file = tree.opener.open(probe, place, writable=False, read_only=tree.read_only)
        tree.backing.close(file.descriptor)
