"""One fixed program, call by call: what it does, and what is true after each call of it.

It runs through the kernel or straight on the filesystem's operations, with a fault at any call.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from tests.crash.power.content import written

if TYPE_CHECKING:
    from pathlib import Path

Step = tuple[Any, ...]
State = dict[str, bytes | str]
"""Path -> content; a folder is "/", a symlink "-> " and its target."""

LONG = "l" * 180
OLD = {"old": 30_000, "old-too": 9000, "gone/old": 100, "linked": 5000, "whole": 8192, LONG: 3000}

SCRIPT: tuple[Step, ...] = (
    ("read", "old"),
    ("create", "small"),
    ("write", "small", 0, 700, 1),
    ("close", "small"),
    ("create", "large"),
    ("write", "large", 0, 30_000, 2),
    ("fsync", "large"),
    ("write", "large", 5000, 100, 3),
    ("fsync", "large"),
    ("write", "large", 3000, 9000, 4),
    ("close", "large"),
    ("open", "old"),
    ("write", "old", 9000, 200, 5),
    ("fsync", "old"),
    ("write", "old", 30_000, 6000, 6),
    ("ftruncate", "old", 6000),
    ("fsync", "old"),
    ("ftruncate", "old", 20_000),
    ("write", "old", 40_000, 5000, 7),
    ("fsync", "old"),
    ("close", "old"),
    ("open", "whole"),
    ("write", "whole", 8192, 100, 11),
    ("write", "whole", 50, 100, 12),
    ("fdatasync", "whole"),
    ("close", "whole"),
    ("truncate", "old-too", 0),
    ("open", "old-too"),
    ("write", "old-too", 0, 50, 8),
    ("close", "old-too"),
    ("mkdir", "folder"),
    ("create", "folder/inside"),
    ("write", "folder/inside", 0, 5000, 9),
    ("fsync", "folder/inside"),
    ("close", "folder/inside"),
    ("fsync folder", "folder"),
    ("rename", "small", "folder/small"),
    ("rename", "linked", "folder/linked"),
    ("link", "folder/linked", "linked-too"),
    ("unlink", "folder/linked"),
    ("create", "temporary"),
    ("write", "temporary", 0, 8000, 10),
    ("close", "temporary"),
    ("rename", "temporary", "old-too"),
    ("rename", LONG, "m" * 190),
    ("rename", "folder", "moved"),
    ("symlink", "link"),
    ("rename", "link", "moved/link"),
    ("chmod", "old"),
    ("setxattr", "old"),
    ("unlink", "gone/old"),
    ("rmdir", "gone"),
    ("mkdir", "f" * 200),
    ("unlink", "moved/link"),
    ("fsync folder", "moved"),
    ("read", "large"),
    ("list", "moved"),
)
TARGET = "somewhere/else"


class Calls(Protocol):
    """The system calls of the script. Each raises OSError."""

    def open(self, path: str, flags: int) -> int: ...
    def write(self, handle: int, data: bytes, at: int) -> None: ...
    def fsync(self, handle: int) -> None: ...
    def fdatasync(self, handle: int) -> None: ...
    def ftruncate(self, handle: int, size: int) -> None: ...
    def close(self, handle: int) -> None: ...
    def read(self, path: str) -> bytes: ...
    def truncate(self, path: str, size: int) -> None: ...
    def mkdir(self, path: str) -> None: ...
    def rmdir(self, path: str) -> None: ...
    def rename(self, old: str, new: str) -> None: ...
    def link(self, old: str, new: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def symlink(self, target: str, path: str) -> None: ...
    def chmod(self, path: str, mode: int) -> None: ...
    def setxattr(self, path: str, value: bytes) -> None: ...
    def fsync_folder(self, path: str) -> None: ...
    def names(self, path: str) -> list[str]: ...
    def kind(self, path: str) -> int: ...
    def readlink(self, path: str) -> str: ...


def state_of(calls: Calls) -> State:
    """Everything that can be seen."""
    found: State = {}
    left = [""]
    while left:
        folder = left.pop()
        for name in calls.names(folder):
            path = f"{folder}/{name}" if folder else name
            kind = calls.kind(path)
            if stat.S_ISDIR(kind):
                found[path] = "/"
                left.append(path)
            elif stat.S_ISLNK(kind):
                found[path] = f"-> {calls.readlink(path)}"
            else:
                found[path] = calls.read(path)
    return found


def prepare(calls: Calls) -> None:
    """What is old when the script begins."""
    calls.mkdir("gone")
    for name, size in OLD.items():
        handle = calls.open(name, os.O_CREAT | os.O_RDWR)
        calls.write(handle, written(name, 0, 0, size), 0)
        calls.close(handle)


@dataclass
class Run:
    """The script under way: its open files, and what is true by now."""

    calls: Calls
    truth: State = field(default_factory=dict)
    _handles: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.truth = {"gone": "/"} | {name: written(name, 0, 0, size) for name, size in OLD.items()}

    def take(self, step: Step) -> None:
        """One call; its effect is true once it has returned."""
        verb, path, *rest = step
        calls = self.calls
        if verb in ("create", "open"):
            flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if verb == "create" else 0)
            self._handles[path] = calls.open(path, flags)
        elif verb == "write":
            at, size, version = rest
            calls.write(self._handles[path], written(path, version, at, size), at)
        elif verb == "close":
            calls.close(self._handles.pop(path))
        elif verb == "fsync":
            calls.fsync(self._handles[path])
        elif verb == "fdatasync":
            calls.fdatasync(self._handles[path])
        elif verb == "ftruncate":
            calls.ftruncate(self._handles[path], *rest)
        elif verb == "symlink":
            calls.symlink(TARGET, path)
        elif verb == "chmod":
            calls.chmod(path, 0o640)
        elif verb == "setxattr":
            calls.setxattr(path, b"value")
        elif verb == "fsync folder":
            calls.fsync_folder(path)
        elif verb == "read":
            assert calls.read(path) == self.truth[path], f"{path} has another content"
        elif verb == "list":
            names = {one.rpartition("/")[2] for one in self.truth if one.startswith(f"{path}/")}
            listed = set(calls.names(path))
            assert listed == names, f"{path} lists {listed} and should list {names}"
        else:
            getattr(calls, verb)(path, *rest)
        self.truth = after(self.truth, step)

    def close_rest(self) -> None:
        """Whatever the script still had open when it ended early."""
        while self._handles:
            with suppress(OSError):
                self.calls.close(self._handles.popitem()[1])


def after(truth: State, step: Step) -> State:
    """What is true after one more call."""
    verb, path, *rest = step
    truth = dict(truth)
    if verb == "create":
        truth[path] = b""
    elif verb == "write":
        at, size, version = rest
        old = truth[path].ljust(at, b"\0")
        truth[path] = old[:at] + written(path, version, at, size) + old[at + size :]
    elif verb in ("ftruncate", "truncate"):
        truth[path] = truth[path][: rest[0]].ljust(rest[0], b"\0")
    elif verb == "mkdir":
        truth[path] = "/"
    elif verb in ("unlink", "rmdir"):
        del truth[path]
    elif verb == "symlink":
        truth[path] = f"-> {TARGET}"
    elif verb == "link":
        truth[rest[0]] = truth[path]
    elif verb == "rename":
        new = rest[0]
        truth = {
            new + one[len(path) :] if one == path or one.startswith(f"{path}/") else one: what
            for one, what in truth.items()
            if one != new
        }
    return truth


class ThroughKernel:
    """On a mount."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, path: str, flags: int) -> int:
        return os.open(self._root / path, flags, 0o600)

    def write(self, handle: int, data: bytes, at: int) -> None:
        assert os.pwrite(handle, data, at) == len(data)

    def fsync(self, handle: int) -> None:
        os.fsync(handle)

    def fdatasync(self, handle: int) -> None:
        os.fdatasync(handle)

    def ftruncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def close(self, handle: int) -> None:
        os.close(handle)

    def read(self, path: str) -> bytes:
        return (self._root / path).read_bytes()

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._root / path, size)

    def mkdir(self, path: str) -> None:
        (self._root / path).mkdir()

    def rmdir(self, path: str) -> None:
        (self._root / path).rmdir()

    def rename(self, old: str, new: str) -> None:
        (self._root / old).rename(self._root / new)

    def link(self, old: str, new: str) -> None:
        os.link(self._root / old, self._root / new)

    def unlink(self, path: str) -> None:
        (self._root / path).unlink()

    def symlink(self, target: str, path: str) -> None:
        (self._root / path).symlink_to(target)

    def chmod(self, path: str, mode: int) -> None:
        (self._root / path).chmod(mode)

    def setxattr(self, path: str, value: bytes) -> None:
        os.setxattr(self._root / path, "user.note", value)

    def fsync_folder(self, path: str) -> None:
        descriptor = os.open(self._root / path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def names(self, path: str) -> list[str]:
        return os.listdir(self._root / path)

    def kind(self, path: str) -> int:
        return (self._root / path).lstat().st_mode

    def readlink(self, path: str) -> str:
        return os.readlink(self._root / path)
