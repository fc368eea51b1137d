"""What every operation of a mount begins with: its tree, its inodes by number, its handles."""

import errno
import os
from typing import TYPE_CHECKING

from fsdriver.attributes import Attributes
from fsdriver.errors import refuse
from fsdriver.handles import Handle
from fsdriver.inodes import Inode
from fsdriver.namespace import Namespace
from fsdriver.temporary import Nameless
from fsdriver.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsdriver.checkpoint import Checkpoints


def _nobody(_number: int) -> None:
    """Nobody has to be told."""


class Served:
    """One mount's, as its operations find it."""

    def __init__(self, tree: Tree, *, read_only: bool) -> None:
        self._tree = tree
        tree.read_only = read_only
        self._read_only = read_only
        self.checkpoints: Checkpoints | None = None
        """Of a mount that writes."""
        self._namespace = Namespace(tree)
        self._nameless = Nameless(tree, self._namespace)
        self.set_ids_dropped: Callable[[int], None] = _nobody
        """Told the number of a file that lost its set-id bits by a write or an open."""
        self._handles: dict[int, Handle] = {}
        self._next_handle = 1

    def number_of(self, handle: int) -> int:
        """The inode behind a handle, for messages; 0 when there is none."""
        opened = self._handles.get(handle)
        return opened.inode.number if opened else 0

    def _counted(self, inode: Inode, status: os.stat_result) -> Attributes:
        inode.lookups += 1
        return self._tree.attributes(inode, status)

    def _inode(self, number: int) -> Inode:
        inode = self._tree.inodes.get(number)
        if inode is None:
            raise refuse(errno.ESTALE)
        return inode

    def _require_writable(self) -> None:
        if self._read_only:
            raise refuse(errno.EROFS)

    def _open_handle(self, inode: Inode, *, writing: bool = False) -> int:
        if inode.open is not None:
            inode.open.handles += 1
            inode.open.writers += writing
        handle = self._next_handle
        self._next_handle += 1
        self._handles[handle] = Handle(inode, writing=writing)
        return handle
