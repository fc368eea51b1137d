"""One folder of a mount in which one attack is made, and the two states of it that its owner has.

Nothing here knows the filesystem under attack: what is written is written through a mount, what is
changed is changed in the ciphertext behind it. So the peers get the same attacks as we do.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK = 1_000_000_000
"""Seconds since 1970: nothing of a test is as old as that by itself."""


@dataclass(frozen=True)
class Shape:
    """How a filesystem cuts a backing file, in bytes."""

    header: int
    plain: int
    """Of a chunk, as a program sees it."""
    overhead: int
    """What a chunk's record has beside it."""
    nonce: int = 0
    """How much of that stands before the ciphertext."""

    @property
    def record(self) -> int:
        return self.plain + self.overhead


CKFS = Shape(header=512, plain=4096, overhead=40, nonce=24)


class Entry(NamedTuple):
    """What a program is to find under a name."""

    kind: int
    """S_IFREG, S_IFDIR, S_IFLNK, …"""
    content: bytes = b""
    """Of a file; the target of a symlink."""
    attributes: tuple[tuple[str, bytes], ...] | None = ()
    """None: not to be looked at."""


Truth = dict[str, Entry]
"""By path, relative to the room."""


@dataclass
class Room:
    """`files` is the folder in the mount; places are relative to the store."""

    files: Path
    store: Path
    shape: Shape = CKFS
    before_store: Path | None = None
    places: dict[str, str] = field(default_factory=dict)
    before_places: dict[str, str] = field(default_factory=dict)
    linked: dict[str, str] = field(default_factory=dict)
    """Places of further names of files."""
    truth: Truth = field(default_factory=dict)
    stash: dict[str, bytes] = field(default_factory=dict)
    """What the owner saw while the store was in use, and kept."""
    outside: Path = Path("/nonexistent")
    """A folder of the host's, of which nothing may be read or written."""

    # While it is mounted

    def content(self, name: str, version: int = 1) -> bytes:
        """Four chunks and a piece of a fifth, the same for the same name and version."""
        draw = random.Random(f"{self.files.name}/{name}/{version}")
        return draw.randbytes(4 * self.shape.plain + 100)

    def write(self, name: str, version: int = 1) -> None:
        (self.files / name).write_bytes(self.content(name, version))

    def furnish(self) -> None:
        """What every room has."""
        for folder in ("folder", "other folder"):
            (self.files / folder).mkdir()
        for name in ("file", "neighbour", "folder/inner", "other folder/inner"):
            self.write(name)

    def made(self, name: str, make: Callable[[], object]) -> None:
        """Do it, and keep where it lies: two names of one file cannot be told apart later."""
        place = self.now(".")
        there = set(os.listdir(place))
        make()
        (new,) = (one for one in set(os.listdir(place)) - there if not one.startswith(".ckfs-name"))
        self.linked[name] = os.path.relpath(place / new, self.store)

    # The store's owner at work

    def now(self, name: str) -> Path:
        return self.store / self.places[name]

    def before(self, name: str) -> Path:
        """The same in the older copy of the store."""
        assert self.before_store is not None
        return self.before_store / self.before_places[name]

    def raw(self, name: str) -> bytearray:
        return bytearray(self.now(name).read_bytes())

    def put(self, name: str, raw: bytes) -> None:
        """Into the same inode."""
        self.now(name).write_bytes(raw)

    def flip(self, name: str, at: int) -> None:
        raw = self.raw(name)
        raw[at] ^= 1
        self.put(name, raw)

    def at(self, index: int) -> int:
        """Where a chunk's record begins."""
        return self.shape.header + index * self.shape.record

    def record(self, raw: bytes, index: int) -> bytes:
        return bytes(raw[self.at(index) : self.at(index + 1)])

    def set_record(self, name: str, index: int, record: bytes) -> None:
        raw = self.raw(name)
        raw[self.at(index) : self.at(index + 1)] = record
        self.put(name, raw)


def truth_of(files: Path) -> Truth:
    """What a mount shows; taken when nobody has done anything to it yet."""
    found: Truth = {".": Entry(stat.S_IFDIR)}
    for folder, folders, names in os.walk(files):
        for name in (*folders, *names):
            place = Path(folder, name)
            found[os.path.relpath(place, files)] = _entry(place)
    return found


def _entry(place: Path) -> Entry:
    kind = stat.S_IFMT(place.lstat().st_mode)
    if kind == stat.S_IFLNK:
        return Entry(kind, os.fsencode(os.readlink(place)))
    if kind == stat.S_IFREG:
        return Entry(kind, place.read_bytes(), attributes_of(place))
    return Entry(kind)


def attributes_of(place: Path) -> tuple[tuple[str, bytes], ...]:
    """User attributes of a file; none where the filesystem has none."""
    try:
        names = sorted(name for name in os.listxattr(place) if name.startswith("user."))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
            return ()
        raise
    return tuple((name, os.getxattr(place, name)) for name in names)


def mark(files: Path, first: int) -> dict[int, str]:
    """Give everything in a mount a time of its own; time -> path. Who looks at a store sees it."""
    marks = {}
    for number, path in enumerate(sorted(truth_of(files))):
        seconds = _MARK + first + number
        os.utime(files / path, (seconds, seconds), follow_symlinks=False)
        marks[seconds] = path
    return marks


def places_of(store: Path, marks: dict[int, str]) -> dict[str, str]:
    """Path in the mount -> place in the store."""
    found = {}
    for folder, folders, names in os.walk(store):
        for name in (*folders, *names):
            place = Path(folder, name)
            path = marks.get(int(place.lstat().st_mtime))
            if path is not None:
                found.setdefault(path, os.path.relpath(place, store))
    return found


def replace(place: Path, source: Path) -> None:
    """Whatever is there goes; a copy of the source, folder or symlink too, takes its place."""
    remove(place)
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, place, symlinks=True)
    else:
        shutil.copy2(source, place, follow_symlinks=False)


def remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    elif os.path.lexists(place):
        place.unlink()


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("ckfs-aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
