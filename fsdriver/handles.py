"""What a handle of the mount stands for: an inode, and how far its listing was read."""

from typing import TYPE_CHECKING

from fsdriver.inodes import Inode

if TYPE_CHECKING:
    from fsdriver.folder import Listed


class Handle:
    """Of one open(2) or opendir(3)."""

    __slots__ = ("inode", "listing", "writing")

    def __init__(self, inode: Inode, *, writing: bool = False) -> None:
        self.inode = inode
        self.writing = writing
        self.listing: list[Listed] | None = None
