"""What stat(2) shows of an inode, from what the backing filesystem says of it.

Sizes are those of plaintext, computed from lengths alone: a listing reads no header.
"""

import os
import stat
from collections.abc import Mapping
from typing import Final, NamedTuple

from fsdriver.errors import SizeMismatch
from fsdriver.format.geometry import HEADER_SIZE, Geometry
from fsdriver.format.names import SYMLINK_OVERHEAD
from fsdriver.inodes import ROOT, Inode

_LINKS_OF_A_FOLDER: Final = 2
"""Without folders in it; filesystems that do not count them say 1."""

_new = tuple.__new__


class Attributes(NamedTuple):
    """Of one inode."""

    number: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    block_size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


class AttributeView:
    """Of one mount, which may show everything as belonging to one user or group."""

    def __init__(
        self,
        geometry: Geometry,
        lengths: Mapping[tuple[int, int], int],
        uid: int | None,
        gid: int | None,
    ) -> None:
        """`lengths`: of backing files as the journal has them, by (device, inode)."""
        self._geometry = geometry
        self._lengths = lengths
        self._uid = uid
        self._gid = gid

    def of(self, inode: Inode, status: os.stat_result) -> Attributes:
        """`status` as a program is to see it."""
        if inode.refusal is not None:
            return Attributes(inode.number, stat.S_IFREG, 0, *(0,) * 9)
        mode = status.st_mode
        size = status.st_size
        if inode.foreign:
            mode, size = stat.S_IFMT(mode), 0
        elif inode.open is not None:
            size = inode.open.size
        elif inode.kind == stat.S_IFREG:
            if self._lengths:
                size = self._lengths.get((status.st_dev, status.st_ino), size)
            size = self._plaintext_size(size)
        elif inode.kind == stat.S_IFLNK:
            size = max(0, size * 3 // 4 - SYMLINK_OVERHEAD)
        number, nlink = inode.number, status.st_nlink
        if number == ROOT and nlink > _LINKS_OF_A_FOLDER:
            nlink -= 1  # the control folder's, which nobody sees
        # A named tuple's own constructor is a function in Python, and this runs for every stat.
        return _new(
            Attributes,
            (
                number,
                mode,
                nlink,
                status.st_uid if self._uid is None else self._uid,
                status.st_gid if self._gid is None else self._gid,
                status.st_rdev,
                size,
                status.st_blocks,
                self._geometry.chunk_size,
                status.st_atime_ns,
                status.st_mtime_ns,
                status.st_ctime_ns,
            ),
        )

    def _plaintext_size(self, length: int) -> int:
        try:
            return self._geometry.plaintext_size(length)
        except SizeMismatch:
            # Damage is found, and said, when the file is opened; a listing must not fail on it.
            return max(0, length - HEADER_SIZE) // self._geometry.stride * self._geometry.chunk_size
