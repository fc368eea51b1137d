"""Drivers with one thing left out: what the checker must see.

Either their backing forgets a kind of sync, or a part of the driver is taken away for a while.
"""

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from fsdriver.format.journal import Draft
from fsdriver.inodes import Inode
from fsdriver.journal import Journal
from fsdriver.rebinding import rebind
from fsdriver.renaming import Renaming
from fsdriver.temporary import Nameless
from tests.crash.states.descriptors import Recorder
from tests.crash.states.image import Image, Node
from tests.crash.states.memory import MemoryBacking


class Blind(MemoryBacking):
    """A store whose syncs of some inodes return at once and do nothing."""

    def __init__(
        self, image: Image, recorder: Recorder, *, loses: Callable[[Node, bool], bool]
    ) -> None:
        super().__init__(image, recorder)
        self._loses = loses

    def sync(self, descriptor: int) -> None:
        if not self._loses(self._node(descriptor), False):
            super().sync(descriptor)

    def sync_data(self, descriptor: int) -> None:
        if not self._loses(self._node(descriptor), True):
            super().sync_data(descriptor)


def _of_files(node: Node, data_only: bool) -> bool:
    return node.kind == stat.S_IFREG and not data_only


def _of_folders(node: Node, data_only: bool) -> bool:
    return node.kind == stat.S_IFDIR


def _of_data(node: Node, data_only: bool) -> bool:
    return data_only


def without_fsync_of_files(image: Image, recorder: Recorder) -> MemoryBacking:
    """fsync(file)."""
    return Blind(image, recorder, loses=_of_files)


def without_fsync_of_folders(image: Image, recorder: Recorder) -> MemoryBacking:
    """fsync(folder)."""
    return Blind(image, recorder, loses=_of_folders)


def without_fdatasync(image: Image, recorder: Recorder) -> MemoryBacking:
    """fdatasync, which helper files are written with."""
    return Blind(image, recorder, loses=_of_data)


class WithoutSyncfs(MemoryBacking):
    """A store whose syncfs does nothing."""

    def sync_filesystem(self, descriptor: int) -> None:
        self._key(descriptor)


def _at_once(
    journal: Journal,
    draft: Draft,
    _file_id: bytes,
    descriptor: int,
    header: bytes,
    length: int,
    cut: int | None,
) -> None:
    """What a transaction would do later, in place and now."""
    backing = journal._backing
    if cut is not None:
        backing.truncate(descriptor, cut)
    for image in draft.placed(0):
        record = draft.frame[image.position : image.position + image.length]
        backing.write(descriptor, [record], image.offset)
    backing.write(descriptor, [header], 0)
    if backing.stat_open(descriptor).st_size != length:
        backing.truncate(descriptor, length)


@contextmanager
def without_journal() -> Iterator[None]:
    """Every replacement in place."""
    with patch.object(Journal, "append", _at_once):
        yield


@contextmanager
def without_clearing() -> Iterator[None]:
    """What was punched out stays where it lay."""
    with patch.object(MemoryBacking, "clear", lambda *_arguments: None):
        yield


@contextmanager
def without_sync_before_link() -> Iterator[None]:
    """A file that was made without a name may get one on the disk before its content does."""
    with patch.object(Nameless, "begin_link", _bound_at_once):
        yield


def _bound_at_once(nameless: Nameless, inode: Inode, parent: Inode, name: bytes) -> None:
    known = nameless._tree.folder(parent).backing_name(name)
    rebind(inode.open.file, (known.binding,))


@contextmanager
def without_sync_before_rename() -> Iterator[None]:
    """Names may reach the disk before the headers that are bound to them."""
    loosen = Renaming._loosen_both

    def without_waiting(renaming: Renaming, move: object, flags: int) -> list[Callable]:
        loosen(renaming, move, flags)
        return []

    with patch.object(Renaming, "_loosen_both", without_waiting):
        yield
