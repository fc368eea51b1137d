"""Where a run takes place: mounts of bounded size, unseen by others, that cannot be left behind.

The run moves into a mount namespace of its own, so that whatever ends it, SIGKILL too, ends its
mounts with it; the image of the disk has no name any more once it is mounted.
"""

import ctypes
import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.figures import Where

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 0x20000, 0x4000, 0x40000, 2


class PlaceRefused(Exception):
    """This machine cannot hold a run; the text says why and what would help."""


def separate() -> None:
    """This process and its children see their own mounts from here on; takes root."""
    if os.geteuid():
        raise PlaceRefused(
            "the bench mounts a tmpfs and an image of bounded size, which takes root: use sudo"
        )
    if _LIBC.unshare(_CLONE_NEWNS) or _LIBC.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        code = ctypes.get_errno()
        raise PlaceRefused(f"no mount namespace of its own to be had: {os.strerror(code)}")
    for place in _mounts_of_ckfs():
        # Unmounted by their owners they would live on in here, and their drivers with them.
        _LIBC.umount2(os.fsencode(place), _MNT_DETACH)


@contextmanager
def base() -> Iterator[Path]:
    """A folder for everything, gone afterwards with all that is mounted in it."""
    folder = Path(tempfile.mkdtemp(prefix="ckfs-bench-"))
    try:
        yield folder
    finally:
        for place in mounted_below(folder):
            if left := unmount(place):
                print(f"bench: {place}: {left}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)


def make_tmpfs(place: Path, size: int) -> str:
    """`size` bytes at most; says what it is. PlaceRefused if memory is short."""
    free = available_memory()
    if size > free * 0.8:
        raise PlaceRefused(
            f"a tmpfs of {size >> 20} MiB would not fit in {free >> 20} MiB of free memory: "
            "take a smaller --size, or --quick"
        )
    place.mkdir()
    # ckfs keeps attributes in extended ones; a tmpfs has them only since Linux 6.6.
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "ckfs-bench", str(place))
    return f"tmpfs of {size >> 20} MiB"


def make_disk(place: Path, folder: Path, size: int) -> str:
    """ext4 of `size` bytes in an image in `folder`, which must lie on a disk; says what it is."""
    if _kind(folder) == "tmpfs":
        raise PlaceRefused(f"{folder} lies in memory: name a folder on a disk with --disk-folder")
    free = shutil.disk_usage(folder).free
    if size > free * 0.9:
        raise PlaceRefused(
            f"an image of {size >> 20} MiB would not fit in {free >> 20} MiB free at {folder}: "
            "take a smaller --size, or another --disk-folder"
        )
    place.mkdir()
    number, name = tempfile.mkstemp(prefix="ckfs-bench-image-", dir=folder)
    try:
        os.posix_fallocate(number, 0, size)
        # Initialised now, else the kernel does it behind the first minutes' figures.
        later = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
        _run("mkfs.ext4", "-q", "-b", "4096", "-O", "encrypt", "-E", later, name)
        _run("mount", "-o", "loop,noatime", name, str(place))
    finally:
        os.close(number)
        os.unlink(name)
    return f"ext4 in a loop image of {size >> 20} MiB on {_kind(folder)}"


def place_for(where: Where, folder: Path, disk_folder: Path | None, size: int) -> tuple[Path, str]:
    """A bounded place of that kind in the base `folder`, and what it is."""
    place = folder / where
    if where == "tmpfs":
        return place, make_tmpfs(place, size)
    return place, make_disk(place, disk_folder or folder, size)


def _run(*words: str) -> None:
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        raise PlaceRefused(f"{words[0]} is not installed: `make install`") from None
    if done.returncode:
        raise PlaceRefused(f"{' '.join(words)}: {done.stderr.strip()}")


def _kind(folder: Path) -> str:
    """The filesystem's type, as the kernel's list of mounts has it."""
    best, kind = -1, "an unknown filesystem"
    for line in _mounts():
        place, _, rest = line.partition(" - ")
        point = Path(place.split(" ")[4])
        # Of mounts on one place the last is the one that is seen.
        if folder.resolve().is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), rest.split(" ")[0]
    return kind


def _mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()


def available_memory() -> int:
    """Bytes that could be used without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise PlaceRefused("/proc/meminfo does not say how much memory is available")


def mounted_below(folder: Path) -> list[Path]:
    """Mount points in a folder, the innermost first."""
    places = [line.split(" ")[4] for line in _mounts()]
    return [Path(one) for one in sorted(places, reverse=True) if one.startswith(f"{folder}/")]


def _mounts_of_ckfs() -> list[str]:
    fields = [line.partition(" - ") for line in _mounts()]
    places = [own.split(" ")[4] for own, _dash, of in fields if of.startswith("fuse.ckfs ")]
    return [re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), one) for one in places]


def is_mounted(place: Path) -> bool:
    """Asks the kernel's list, so that a driver that hangs cannot make it hang."""
    return place in mounted_below(place.parent)


def unmount(place: Path, *, patience: float = 10.0) -> str | None:
    """None once it is gone; else what is wrong, and then it is at least out of sight."""
    end = time.monotonic() + patience
    while is_mounted(place):
        if not _LIBC.umount2(os.fsencode(place), 0):
            continue
        code = ctypes.get_errno()
        if code == errno.EBUSY and time.monotonic() < end:
            time.sleep(0.02)
            continue
        _LIBC.umount2(os.fsencode(place), _MNT_DETACH)
        return f"could not be unmounted: {os.strerror(code)}"
    return None


BOUND = ("setpriv", "--pdeathsig", "KILL", "--")
"""Before a command: it ends with the run, however that ends."""


def remove(entry: Path) -> None:
    """A file, or a folder with what is in it."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def drop_caches(place: Path) -> None:
    """What lies on `place` reaches its disk and leaves memory; on a tmpfs nothing is done."""
    if _kind(place) == "tmpfs":
        return
    folder = os.open(place, os.O_RDONLY)
    try:
        _LIBC.syncfs(folder)
    finally:
        os.close(folder)
    with suppress(OSError):  # in a container it is not ours to write
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
