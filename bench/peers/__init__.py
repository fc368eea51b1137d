"""The filesystems that take part: how each is made, mounted, watched and unmounted."""

from pathlib import Path

from bench.peers.ckfs import Ckfs
from bench.peers.fscrypt import Fscrypt
from bench.peers.plain import Plain
from bench.peers.programs import Cryfs, Encfs, Gocryptfs, Rclone, Securefs
from bench.peers.system import Room, System

NAMES = (
    "plain",
    "ckfs",
    "ckfs pyfuse3",
    "gocryptfs",
    "securefs",
    "EncFS",
    "CryFS",
    "rclone crypt",
    "fscrypt",
)
QUICK_NAMES = ("plain", "ckfs", "gocryptfs", "securefs")


def make(name: str, place: Path, points: Path, ckfs_options: tuple[str, ...] = ()) -> System:
    """A system by its name; its store will lie in `place`, its mount point in `points`."""
    room = Room(place / name.replace(" ", "-"), points / name.replace(" ", "-"))
    match name:
        case "plain":
            return Plain(room)
        case "ckfs":
            return Ckfs(room, None, ckfs_options)
        case "ckfs pyfuse3":
            return Ckfs(room, "pyfuse3", ckfs_options)
        case "gocryptfs":
            return Gocryptfs(room)
        case "securefs":
            return Securefs(room)
        case "EncFS":
            return Encfs(room)
        case "CryFS":
            return Cryfs(room)
        case "rclone crypt":
            return Rclone(room)
        case "fscrypt":
            return Fscrypt(room)
    raise ValueError(f"no system is called {name!r}; there are: {', '.join(NAMES)}")
