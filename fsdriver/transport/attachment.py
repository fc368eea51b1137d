"""How a descriptor of /dev/fuse comes to serve a mount: by mount(2), or by fusermount3's hand.

mount(2) is root's. For everybody else fusermount3, which is set-user-id, opens the device, mounts,
and passes the descriptor back over a socket (fusermount3(1); the number of the socket stands in
_FUSE_COMMFD).
"""

import ctypes
import os
import select
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from fsdriver.errors import MountRefused
from fsdriver.mountpoints import FSTYPE, plain_mountpoint

READ_AHEAD: Final = 1 << 20
"""Bytes: requests as large as they get, which is half again as fast as 128 KiB."""
_DEVICE: Final = "/dev/fuse"
_FLAGS: Final = {
    "ro": (1, True),
    "rw": (1, False),
    "nosuid": (2, True),
    "suid": (2, False),
    "nodev": (4, True),
    "dev": (4, False),
    "noexec": (8, True),
    "exec": (8, False),
    "sync": (16, True),
    "async": (16, False),
    "dirsync": (128, True),
    "noatime": (1024, True),
    "nodiratime": (2048, True),
    "diratime": (2048, False),
    "relatime": (1 << 21, True),
    "norelatime": (1 << 21, False),
    "strictatime": (1 << 24, True),
}
"""Options of mount(8) that are flags of mount(2): the bit, and whether it is set or cleared."""
_DEFAULT_FLAGS: Final = 2 | 4
"""nosuid, nodev: as libfuse mounts for root, too."""


def attach(mountpoint: str, options: Iterable[str], source: str) -> int:
    """Mount, and give the descriptor on which the kernel's requests come.

    `options` in the words of mount(8) and mount.fuse3(8); `source` is what mountinfo shows.
    Raises OSError or MountRefused when the system does not allow it.
    """
    if os.geteuid() == 0:
        return _by_mount(mountpoint, options, source)
    return _by_fusermount(mountpoint, options, source)


def _by_mount(mountpoint: str, options: Iterable[str], source: str) -> int:
    descriptor = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        flags = _DEFAULT_FLAGS
        rest = []
        # Where one contradicts another, that which allows less is done last.
        for option in sorted(options, key=lambda option: _FLAGS.get(option, (0, False))[1]):
            if option in _FLAGS:
                bit, setting = _FLAGS[option]
                flags = flags | bit if setting else flags & ~bit
            else:
                rest.append(option)
        mode = stat.S_IFMT(os.stat(mountpoint).st_mode)
        data = [
            f"fd={descriptor}",
            f"rootmode={mode:o}",
            f"user_id={os.getuid()}",
            f"group_id={os.getgid()}",
            *sorted(rest),
        ]
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(
            os.fsencode(source),
            os.fsencode(mountpoint),
            FSTYPE.encode(),
            ctypes.c_ulong(flags),
            ",".join(data).encode(),
        ):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), mountpoint)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _by_fusermount(mountpoint: str, options: Iterable[str], source: str) -> int:
    program = shutil.which("fusermount3")
    if program is None:
        raise MountRefused("there is no fusermount3, which mounts for an ordinary user")
    name = source.replace("\\", "\\\\").replace(",", "\\,")
    wanted = ",".join(
        [*sorted(options), f"subtype={FSTYPE.removeprefix('fuse.')}", f"fsname={name}"]
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.Popen(  # noqa: S603
            [program, "-o", os.fsencode(wanted), "--", os.fsencode(mountpoint)],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            stderr=subprocess.PIPE,
        )
        theirs.close()
        _data, descriptors, _flags, _address = socket.recv_fds(ours, 1, 1)
        _out, said = done.communicate()
    if not descriptors:
        words = os.fsdecode(said).strip() or f"fusermount3 ended with status {done.returncode}"
        raise MountRefused(f"fusermount3 refused to mount on {mountpoint}: {words}")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def raise_read_ahead(place: str) -> int:
    """Let the kernel read further ahead than its 128 KiB; bytes that it may, 0 if it is not known.

    Before the mount's first request is answered, so `place` is the real path of its mount point:
    whoever looks at it now would wait for himself. Only for who may write to sysfs: everybody
    else keeps what there is.
    """
    with (
        suppress(OSError),
        open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines,
    ):
        devices = [line.split(" ")[2] for line in lines if plain_mountpoint(line) == place]
        if not devices:
            return 0
        knob = f"/sys/class/bdi/{devices[-1]}/read_ahead_kb"
        with open(knob, "r+", encoding="ascii") as file:
            now = int(file.read())
            if now < READ_AHEAD >> 10:
                file.seek(0)
                file.write(str(READ_AHEAD >> 10))
                now = READ_AHEAD >> 10
            return now << 10
    return 0


def let_go(descriptor: int) -> None:
    """Cut the connection, but keep the number: whoever still reads from it finds nothing."""
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.dup2(nothing, descriptor, inheritable=False)
    finally:
        os.close(nothing)


def is_attached(descriptor: int) -> bool:
    """Whether the mount that this descriptor serves is still there."""
    poll = select.poll()
    poll.register(descriptor, 0)
    # fuse(4): a connection that is gone is told as an error.
    return not any(event & (select.POLLERR | select.POLLNVAL) for _fd, event in poll.poll(0))
