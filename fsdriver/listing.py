"""A folder's listing: what is there, and what should be there and is not.

An entry that somebody deleted in the store is listed as an empty file without permissions, which
nobody can open: a smaller folder would tell no one. Whoever removes that name accepts the loss.
"""

import stat
import time
from collections.abc import Iterator
from typing import Final

from fsdriver import lookups
from fsdriver.attributes import Attributes
from fsdriver.errors import EntryMissing, NameInvalid
from fsdriver.folder import Folder, Listed
from fsdriver.handles import Handle
from fsdriver.inodes import Inode
from fsdriver.reports import Reports
from fsdriver.tree import Tree

_DOTS: Final = 2
KEPT: Final = 4096
"""Entries of a listing that is kept for the next one who asks."""
_SETTLED_NS: Final = 50_000_000
"""A filesystem's clock may stand still for as long as a tick while names come and go."""


def begin(tree: Tree, parent: Inode, reports: Reports) -> list[Listed]:
    """All entries but the dots and the driver's own, as they are now."""
    folder = tree.folder(parent)
    stamp = _stamp(tree, folder)
    if folder.listed is not None and folder.listed_at == stamp:
        return folder.listed
    folder.listed, folder.listed_at = None, (0, 0)
    listed, reasons = folder.listing(tree.backing)
    foreign = [entry.text for entry in listed if entry.foreign]
    for text, reason in zip(foreign, reasons, strict=True):
        reports.report(parent, tree.expectations.strangeness_of(folder, text, reason))
    missing = tree.expectations.missing(folder, [entry.text for entry in listed])
    listed += [_missing(tree, folder, text) for text in missing]
    settled = time.time_ns() - stamp[0] > _SETTLED_NS
    if settled and not foreign and not missing:
        folder.listed_at = stamp
        if len(listed) <= KEPT:
            tree.keep_listing(folder, listed)
    return listed


def is_kept(tree: Tree, parent: Inode) -> bool:
    """Whether what was listed last is still what is there: nothing has come or gone since then."""
    folder = tree.folder(parent)
    return folder.listed_at == _stamp(tree, folder)


def _stamp(tree: Tree, folder: Folder) -> tuple[int, int]:
    """Changes with every name that comes or goes, once the clock has moved on."""
    status = tree.backing.stat_open(folder.descriptor)
    return status.st_mtime_ns, status.st_ctime_ns


def _missing(tree: Tree, folder: Folder, text: str) -> Listed:
    try:
        name, _known = folder.name_of(tree.backing, text)
    except NameInvalid:
        # Its long name went with it.
        name = text.encode()
    return Listed(name, text, 0, foreign=False)


def walk(tree: Tree, handle: Handle, start: int) -> Iterator[tuple[bytes, Attributes, int]]:
    """(name, attributes, where to start for the next one) of a listing that was begun."""
    parent = handle.inode
    dots = ((b".", parent), (b"..", parent.parent or parent))
    for at, (name, inode) in enumerate(dots):
        if start <= at:
            yield name, tree.attributes(inode, tree.status(inode)), at + 1
    listing = handle.listing or []
    folder = tree.folder(parent)
    look = tree.backing.stat
    for at in range(max(0, start - len(dots)), len(listing)):
        listed = listing[at]
        try:
            status = look(folder.descriptor, listed.text)
        except OSError as error:
            reason = _why_not(tree, folder, listed.text, error)
            if reason is None:
                continue  # removed since the listing was made
            status = tree.status(tree.inodes.root)
            inode = tree.inodes.enter_refused(parent, listed.name, reason)
        else:
            inode = lookups.enter_listed(tree, parent, folder, listed, status)
        try:
            yield listed.name, tree.attributes(inode, status), at + len(dots) + 1
        finally:
            tree.inodes.drop_if_unused(inode)


def names(tree: Tree, handle: Handle, start: int) -> Iterator[tuple[bytes, int, int, int]]:
    """(name, inode number, st_mode's type or 0, where to start for the next one): no status."""
    parent = handle.inode
    tree.folder(parent)  # whose key may have been revoked since the listing was begun
    above = parent.parent or parent
    yield from [
        (b".", parent.number, stat.S_IFDIR, 1),
        (b"..", above.number, stat.S_IFDIR, _DOTS),
    ][start:]
    listing = handle.listing or []
    number_of = tree.inodes.number_of
    for at in range(max(0, start - _DOTS), len(listing)):
        name, _text, kind, _foreign, number = listing[at]
        yield name, number_of(number), kind, at + _DOTS + 1


def _why_not(tree: Tree, folder: Folder, text: str, error: OSError) -> EntryMissing | None:
    if not isinstance(error, FileNotFoundError):
        return EntryMissing(f"the entry {text!r} cannot be looked at: {error.strerror}")
    try:
        tree.expectations.miss(folder, text)
    except EntryMissing as missing:
        return missing
    return None
