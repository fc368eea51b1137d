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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.mounted.driving import detach, mountpoints_below, unmount, until

MIB = 1 << 20
_GOING_DOWN = 0x8004587D  # XFS_IOC_GOINGDOWN, and EXT4_IOC_SHUTDOWN
_WITHOUT_LOG_FLUSH = struct.pack("I", 2)
_LIBC = ctypes.CDLL(None, use_errno=True)


def _said(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{command} ended with {done.returncode}: {done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Kind:
    """How a disk is made and mounted; XFS takes no image below 300 MiB."""

    mib: int
    make: tuple[str, ...]
    options: str


KINDS = {
    "ext4": Kind(96, ("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1"), "defaults"),
    # Copies of one image have one UUID, and two of them may be mounted at a time.
    "xfs": Kind(320, ("mkfs.xfs", "-q"), "nouuid"),
}


class Disk:
    """An image `FOLDER/NAME.img`, mounted at `FOLDER/NAME`."""

    def __init__(self, folder: Path, name: str, kind: str, *, mib: int = 0) -> None:
        self.kind = KINDS[kind]
        self.image = folder / f"{name}.img"
        self.place = folder / name
        self.place.mkdir(parents=True)
        self._mib = mib or self.kind.mib
        self._was_cut = False

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
        """After a cut, this replays the filesystem's own journal.

        On a loop device of its own: the one before it may live on in the mount namespace of a
        program that runs beside this one, and with it the filesystem, shut down as it was.
        """
        words = ",".join((self.kind.options, *options))
        device = _said("losetup", "--find", "--show", self.image).strip()
        try:
            _said("mount", "-o", words, device, self.place)
        finally:
            _said("losetup", "--detach", device)  # as soon as nobody uses it any more
        self._was_cut = False
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
        self._was_cut = True

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
        if not self._was_cut:  # else nothing more reaches the image
            until(lambda: not self._is_attached(), f"{self.image} is written")

    def _is_attached(self) -> bool:
        for place in Path("/sys/block").glob("loop*/loop/backing_file"):
            with suppress(OSError):
                if place.read_text().rstrip("\n") == os.path.realpath(self.image):
                    return True
        return False

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
