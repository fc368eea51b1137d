"""What all programs that work until the power goes have in common."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.crash.power.ledger import Ledger, Step


@dataclass
class Found:
    """A folder as it is after a cut, every file read to its end."""

    files: dict[str, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def below(self, folder: str) -> Found:
        """The part in a folder, by its names there."""
        cut = len(folder) + 1

        def inside(paths):
            return (path for path in paths if path.startswith(f"{folder}/"))

        return Found(
            {path[cut:]: self.files[path] for path in inside(self.files)},
            {path[cut:] for path in inside(self.folders)},
            {path[cut:]: self.links[path] for path in inside(self.links)},
            [one for one in self.unreadable if one.startswith(f"{folder}/")],
        )

    def listing(self, folder: str = "") -> set[str]:
        """The names in one folder."""
        start = f"{folder}/" if folder else ""
        every = (*self.files, *self.folders, *self.links)
        inside = (path[len(start) :] for path in every if path.startswith(start))
        return {name for name in inside if "/" not in name}


def look(root: Path) -> Found:
    """Read everything; what cannot be read or listed is told."""
    found = Found()
    left = [""]
    while left:
        folder = left.pop()
        try:
            names = os.listdir(root / folder)
        except OSError as error:
            found.unreadable.append(f"{folder}/: {error}")
            continue
        for name in names:
            path = f"{folder}/{name}" if folder else name
            place = root / path
            try:
                mode = place.lstat().st_mode
                if stat.S_ISDIR(mode):
                    found.folders.add(path)
                    left.append(path)
                elif stat.S_ISLNK(mode):
                    found.links[path] = os.readlink(place)
                else:
                    found.files[path] = place.read_bytes()
            except OSError as error:
                found.unreadable.append(f"{path}: {error}")
    return found


@dataclass
class Verdict:
    """What is wrong, and how much was looked at."""

    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Program(Protocol):
    """A program with a folder of its own, in which it finds what is old."""

    name: str

    def prepare(self, place: Path) -> None:
        """Make what is old when it runs: nothing of it is in anybody's cache then."""

    def run(self, place: Path, ledger: Ledger, order: random.Random) -> None:
        """Work until something fails, as it does when the power is gone."""

    def judge(self, steps: list[Step], found: Found, rules: Rules) -> Verdict:
        """Whether what is found there can be, after these steps."""


@dataclass(frozen=True)
class Rules:
    """Of one cycle."""

    chunk_size: int
    every_step_is_durable: bool
    """The driver alone was killed: what was acknowledged is there, synced or not."""


def sync_folder(place: Path) -> None:
    """fsync(2) of a folder."""
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(place: Path, content: bytes) -> None:
    """A new or cut file, its content, fsync."""
    with place.open("wb", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())
