"""Drivers that leave one sync out: what the checker must see."""

import stat
from collections.abc import Callable

from tests.crash.states.image import Image, Node
from tests.crash.states.memory import MemoryBacking, Recorder


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


class WithoutCheckpoints(MemoryBacking):
    """A store whose syncfs does nothing."""

    def sync_filesystem(self, descriptor: int) -> None:
        self._key(descriptor)


def without_fsync_of_files(image: Image, recorder: Recorder) -> MemoryBacking:
    """fsync(file)."""
    return Blind(image, recorder, loses=_of_files)


def without_fsync_of_folders(image: Image, recorder: Recorder) -> MemoryBacking:
    """fsync(folder)."""
    return Blind(image, recorder, loses=_of_folders)


def without_fdatasync(image: Image, recorder: Recorder) -> MemoryBacking:
    """fdatasync, which helper files are written with."""
    return Blind(image, recorder, loses=_of_data)
