"""Mount points: whether one will do, which ckfs mounts there are, and how to undo one."""

import ctypes
import errno
import os
import re
import shutil
import stat
import subprocess
import time
from typing import Final, NamedTuple

from fsdriver.errors import MountRefused, NotPermitted

FSTYPE: Final = "fuse.ckfs"
_DEVICE: Final = "/dev/fuse"
_CONFIG: Final = "/etc/fuse.conf"
_MNT_DETACH: Final = 2


class _NotThere(MountRefused):
    exit_code = 18


class _NotEmpty(MountRefused):
    exit_code = 19


class _StoreInside(MountRefused):
    exit_code = 20


class _MountInside(MountRefused):
    exit_code = 21


class NoFuse(MountRefused):
    """This machine has no FUSE, or none for this user."""

    exit_code = 22


class NotMounted(MountRefused):
    """Nothing of ours is mounted there."""

    exit_code = 23


class StillUsed(MountRefused):
    """A program still uses the mount."""

    exit_code = 24


class Mounted(NamedTuple):
    """One ckfs mount of this machine."""

    mountpoint: str
    store: str
    options: str


def check(store: str, mountpoint: str) -> None:
    """Raises a MountRefused that says what is wrong with the mount point, and what to do."""
    here = [one for one in mounted() if one.mountpoint == os.path.realpath(mountpoint)]
    if here:
        raise _taken(here[0])
    if not os.path.isdir(mountpoint):
        raise _NotThere(
            f"{mountpoint} is no folder to mount on; make it with `mkdir -p {mountpoint}`"
        )
    place, where = os.path.realpath(store), os.path.realpath(mountpoint)
    if place == where or place.startswith(where.rstrip("/") + "/"):
        raise _StoreInside(
            f"the store {store} lies inside the mount point {mountpoint} and would be hidden by "
            "its own mount; mount it elsewhere"
        )
    if where.startswith(place.rstrip("/") + "/"):
        raise _MountInside(
            f"the mount point {mountpoint} lies inside the store {store}; what is mounted there "
            "would be taken for ciphertext; mount it elsewhere"
        )
    try:
        taken = bool(os.listdir(mountpoint))
    except OSError as error:
        raise NotPermitted(f"{mountpoint} cannot be read: {error.strerror}") from None
    if taken:
        raise _NotEmpty(f"{mountpoint} is not empty; mount on an empty folder")


def _taken(here: Mounted) -> MountRefused:
    """Its root may be empty, but what is mounted over it could be taken for it."""
    try:
        os.listdir(here.mountpoint)
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            return _NotThere(
                f"the driver of the mount at {here.mountpoint} has died; take that mount away "
                f"with `ckfs umount {here.mountpoint}` first"
            )
    return _NotEmpty(
        f"{here.store} is mounted at {here.mountpoint} already; mount elsewhere, or unmount it "
        f"with `ckfs umount {here.mountpoint}`"
    )


def check_fuse(*, allow_other: bool = False) -> None:
    """Raises NoFuse or NotPermitted when a mount cannot work on this machine or for this user."""
    try:
        is_device = stat.S_ISCHR(os.stat(_DEVICE).st_mode)
    except OSError:
        raise NoFuse(
            f"there is no {_DEVICE}: load the kernel's module with `modprobe fuse`"
        ) from None
    if not is_device:
        raise NoFuse(f"{_DEVICE} is no device; make it with `mknod {_DEVICE} c 10 229`")
    if os.geteuid() == 0:
        return
    if shutil.which("fusermount3") is None:
        raise NoFuse(
            "there is no fusermount3, which mounts for an ordinary user: install the package fuse3"
        )
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        raise NoFuse(f"{_DEVICE} is not for this user; an administrator can `chmod 666 {_DEVICE}`")
    if allow_other and not _others_allowed():
        raise NotPermitted(
            f"allow_other is root's alone here: permission comes with user_allow_other in {_CONFIG}"
        )


def _others_allowed() -> bool:
    try:
        with open(_CONFIG, encoding="utf-8", errors="replace") as lines:
            return any(line.strip() == "user_allow_other" for line in lines)
    except OSError:
        return False


def mounted() -> list[Mounted]:
    """Every ckfs mount that this process can see."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields, _dash, rest = line.rstrip("\n").partition(" - ")
            fstype, source, options = rest.split(" ", 2)
            if fstype == FSTYPE:
                parts = fields.split(" ")
                found.append(Mounted(_plain(parts[4]), _plain(source), f"{parts[5]},{options}"))
    return found


def plain_mountpoint(line: str) -> str:
    """Where one line of mountinfo says that something is mounted."""
    return _plain(line.split(" ")[4])


def _plain(text: str) -> str:
    """mountinfo writes space, tab, newline and backslash as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def unmount(mountpoint: str, *, lazy: bool = False, deadline_seconds: float = 30.0) -> None:
    """Unmount and wait until the mount is gone; raises NotMounted, StillUsed or NotPermitted."""
    where = os.path.abspath(mountpoint)
    if not os.path.ismount(where):
        where = os.path.realpath(mountpoint)
    if where not in {one.mountpoint for one in mounted()}:
        raise NotMounted(f"no ckfs is mounted at {mountpoint}; `ckfs status` lists the mounts")
    if os.geteuid() == 0:
        _unmount_as_root(where, lazy=lazy)
    else:
        _unmount_as_user(where, lazy=lazy)
    until = time.monotonic() + deadline_seconds
    while where in {one.mountpoint for one in mounted()}:
        if time.monotonic() > until:
            raise StillUsed(f"{mountpoint} is still mounted after {deadline_seconds:.0f} s")
        time.sleep(0.01)


def _unmount_as_root(where: str, *, lazy: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(where), _MNT_DETACH if lazy else 0):
        code = ctypes.get_errno()
        if code == errno.EBUSY:
            raise _busy(where)
        raise NotPermitted(f"{where} cannot be unmounted: {os.strerror(code)}")


def _unmount_as_user(where: str, *, lazy: bool) -> None:
    program = shutil.which("fusermount3")
    if program is None:
        raise NoFuse("there is no fusermount3 to unmount with: install the package fuse3")
    command = [program, "-u", *(["-z"] if lazy else []), "--", where]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        if "busy" in done.stderr.lower():
            raise _busy(where)
        raise NotPermitted(f"{where} cannot be unmounted: {done.stderr.strip()}")


def _busy(where: str) -> StillUsed:
    users = ", ".join(f"{name} ({pid})" for pid, name in _users(where))
    return StillUsed(
        f"{where} is in use{f' by {users}' if users else ''}; close what is open there, or "
        "unmount it as soon as it is free with --lazy"
    )


def _users(where: str) -> list[tuple[int, str]]:
    """Processes with a working folder or an open file below, as far as /proc shows them."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        links = [f"/proc/{pid}/cwd", f"/proc/{pid}/root"]
        try:
            links += [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]
            targets = [os.readlink(link) for link in links]
            with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
                name = comm.read().strip()
        except OSError:
            continue
        if any(target == where or target.startswith(where + "/") for target in targets):
            found.append((int(pid), name))
    return found
