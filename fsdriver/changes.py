"""What setattr does: owner, mode, size and times of one inode."""

import errno
import stat
from typing import NamedTuple

from fsdriver.errors import refuse
from fsdriver.inodes import ROOT, Inode
from fsdriver.tree import Tree


class Changes(NamedTuple):
    """What setattr(2)'s relatives ask for; None leaves a field as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    kill_priv: bool = False
    """Whether set-id bits are to go with what else is changed (FUSE_HANDLE_KILLPRIV_V2)."""


def change(tree: Tree, inode: Inode, changes: Changes) -> None:
    """In this order, since chown clears set-id bits and a truncation sets the time."""
    if inode.foreign:
        raise refuse(errno.EIO)
    if changes.uid is not None or changes.gid is not None:
        _change_owner(tree, inode, changes)
    if changes.kill_priv:
        drop_set_ids(tree, inode)
    if changes.mode is not None:
        _change_mode(tree, inode, stat.S_IMODE(changes.mode))
    if changes.size is not None:
        _truncate(tree, inode, changes.size)
    if changes.atime_ns is not None or changes.mtime_ns is not None:
        _change_times(tree, inode, changes)


def drop_set_ids(tree: Tree, inode: Inode) -> bool:
    """Before somebody changes a file who may not keep them: suid; sgid if the group may execute.

    The system does not do it here: the driver is privileged to keep them. Whether there were any.
    """
    mode = stat.S_IMODE(tree.status(inode).st_mode)
    kept = mode & ~stat.S_ISUID
    if mode & stat.S_IXGRP:
        kept &= ~stat.S_ISGID
    if kept != mode:
        _change_mode(tree, inode, kept)
    return kept != mode


def _descriptor(tree: Tree, inode: Inode) -> int | None:
    """What is open anyway, or has no name to be found by."""
    if inode.open is not None:
        return inode.open.file.descriptor
    if inode.number == ROOT or (inode.folder is not None and inode.parent is None):
        return tree.folder(inode).descriptor
    return None


def _change_owner(tree: Tree, inode: Inode, changes: Changes) -> None:
    uid = -1 if changes.uid is None else changes.uid
    gid = -1 if changes.gid is None else changes.gid
    descriptor = _descriptor(tree, inode)
    if descriptor is not None:
        tree.backing.change_open_owner(descriptor, uid, gid)
    else:
        place = tree.place(inode)
        tree.backing.change_owner(place.folder.descriptor, place.name.text, uid, gid)


def _change_mode(tree: Tree, inode: Inode, mode: int) -> None:
    if inode.open is not None:
        inode.open.lacks_set_ids = False
    descriptor = _descriptor(tree, inode)
    if descriptor is not None:
        tree.backing.change_open_mode(descriptor, mode)
    else:
        place = tree.place(inode)
        tree.backing.change_mode(place.folder.descriptor, place.name.text, mode)


def _truncate(tree: Tree, inode: Inode, size: int) -> None:
    if inode.kind != stat.S_IFREG:
        raise refuse(errno.EISDIR if inode.kind == stat.S_IFDIR else errno.EINVAL)
    content = tree.open_content(inode, writable=True)
    content.handles += 1
    try:
        content.truncate(size)
    finally:
        content.handles -= 1
        tree.shut_if_unused(inode)


def _change_times(tree: Tree, inode: Inode, changes: Changes) -> None:
    status = tree.status(inode)
    atime = status.st_atime_ns if changes.atime_ns is None else changes.atime_ns
    mtime = status.st_mtime_ns if changes.mtime_ns is None else changes.mtime_ns
    descriptor = _descriptor(tree, inode)
    if descriptor is not None:
        # A seal keeps times, so one that is still to come leaves these alone.
        tree.backing.change_open_times(descriptor, atime, mtime)
    else:
        place = tree.place(inode)
        tree.backing.change_times(place.folder.descriptor, place.name.text, atime, mtime)
