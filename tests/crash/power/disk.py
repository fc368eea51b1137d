"""A disk of bounded size whose power can be cut: a filesystem in a loop image.

The cut is the shutdown ioctl of ext4 and XFS without a flush of their log: from that moment nothing
reaches the image, pages that were not written back and metadata that was not committed are gone.
What the image got before counts as written: a disk's own volatile cache is not modelled here.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.mounted.driving import detach, mountpoints_below, unmount, until

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
_GOING_DOWN = 0x8004587D  # XFS_IOC_GOINGDOWN, and EXT4_IOC_SHUTDOWN
_WITHOUT_LOG_FLUSH = struct.pack("I", 2)
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Kind:
    """How a disk is made and mounted; XFS takes no image below 300 MiB."""

    mib: int
    make: tuple[str, ...]
    options: str


KINDS = {
    "ext4": Kind(96, ("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1"), "loop"),
    # Copies of one image have one UUID, and two of them may be mounted at a time.
    "xfs": Kind(320, ("mkfs.xfs", "-q"), "loop,nouuid"),
}


class Disk:
    """An image `FOLDER/NAME.img`, mounted at `FOLDER/NAME`."""

    def __init__(self, folder: Path, name: str, kind: str, *, mib: int = 0) -> None:
        self.kind = KINDS[kind]
        self.image = folder / f"{name}.img"
        self.place = folder / name
        self.place.mkdir(parents=True)
        self._mib = mib or self.kind.mib

    def make(self) -> Disk:
        """Empty, and mounted."""
        with self.image.open("wb") as file:
            file.truncate(self._mib * MIB)
        subprocess.run([*self.kind.make, self.image], check=True, capture_output=True)
        return self.mount()

    def copy_of(self, other: Disk) -> Disk:
        """As another one, which is not mounted, is; mounted."""
        subprocess.run(["cp", "--sparse=always", other.image, self.image], check=True)
        return self.mount()

    def mount(self, *options: str) -> Disk:
        """After a cut, this replays the filesystem's own journal."""
        words = ",".join((self.kind.options, *options))
        subprocess.run(
            ["mount", "-o", words, self.image, self.place], check=True, capture_output=True
        )
        return self

    def is_mounted(self) -> bool:
        return str(self.place) in mountpoints_below(self.place.parent)

    def cut(self) -> None:
        """The power is gone."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _GOING_DOWN, _WITHOUT_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """syncfs(2)."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            if _LIBC.syncfs(descriptor):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(self.place))
        finally:
            os.close(descriptor)

    def umount(self) -> None:
        """As soon as nobody has anything open on it any more."""
        until(self._try_unmount, f"{self.place} is given back")

    def _try_unmount(self) -> bool:
        try:
            unmount(self.place)
        except OSError:
            return not self.is_mounted()
        return True

    def destroy(self) -> None:
        """Whatever state it is in."""
        while self.is_mounted():
            detach(self.place)
        self.image.unlink(missing_ok=True)
        self.place.rmdir()
