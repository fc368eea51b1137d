"""The same attacks on the peers: the same rooms, the same edits, the same looks."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.attacks.attack import Attack
from tests.attacks.looking import ACCEPTED, OK, look
from tests.attacks.ours import folder_of
from tests.attacks.peerblocks import PeerBlocks
from tests.attacks.peeroutcome import IGNORED, OLDER_STORE, outcome
from tests.attacks.peerprograms import PROGRAMS, Mounted, Program
from tests.attacks.rooms import Room, mark, places_of, truth_of
from tests.attacks.table import ATTACKS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.report import Row

_FIRST, _SECOND = 1000, 2_000_000
_AT_A_TIME = 10
CONTROL = Attack("control", "nothing", lambda _room: None, victims=(), peers=True)
"""What differs without any attack is a mistake of ours."""
_NO_SYMLINKS = ("rclone crypt",)


def peers(rows: list[Row], folder: Path, backing: Path) -> dict[str, str]:
    """Fill in what each peer made of each attack; peer -> version, of those that are here."""
    versions = {}
    for program in PROGRAMS:
        if not shutil.which(program.binary):
            continue
        versions[program.name] = _version(program)
        runs = PeerRooms if program.names else PeerBlocks
        told = runs(program, folder, backing).run()
        for row in rows:
            row.peers[program.name] = told.get(row.name, "")
    return versions


def _version(program: Program) -> str:
    done = subprocess.run(
        [program.binary, *program.version], capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).strip().splitlines()[0]


class PeerRooms:
    """One store of a peer, a folder of it for each attack."""

    def __init__(self, program: Program, folder: Path, backing: Path) -> None:
        name = "".join(one if one.isalnum() else "-" for one in program.name)
        self.program = program
        self.before = backing / f"{name}-before"
        self.mounted = Mounted(program, folder / name, backing / name)
        self.attacks = [
            attack
            for attack in (CONTROL, *ATTACKS)
            if attack.peers and not (attack.first and program.name in _NO_SYMLINKS)
        ]
        # rclone copies a tree into the store; the others are written through their mounts.
        self.is_copied = program.binary == "rclone"
        self.tree = folder / f"{name}-tree" if self.is_copied else self.mounted.mountpoint
        self.tree.mkdir(exist_ok=True)
        self.rooms = {
            attack.name: Room(
                self.tree / folder_of(attack), self.mounted.store, program.shape, self.before
            )
            for attack in self.attacks
        }

    def run(self) -> dict[str, str]:
        """Attack -> what came of it."""
        try:
            self._build()
            whole = self._whole_store()
            for attack in self.attacks:
                attack.edit(self.rooms[attack.name])
            self.mounted.mount()
            told = {attack.name: self._look(attack) for attack in self.attacks}
            self.mounted.umount()
            assert told[CONTROL.name] == IGNORED, f"{self.program.name}: {told[CONTROL.name]}"
            return told | {OLDER_STORE: whole}
        finally:
            self.mounted.end()

    def _build(self) -> None:
        self.mounted.init()
        self._begin()
        for attack in self.attacks:
            room = self.rooms[attack.name]
            room.files.mkdir()
            room.furnish()
            if attack.first:
                attack.first(room)
        places = self._end(_FIRST)
        subprocess.run(["cp", "-a", self.mounted.store, self.before], check=True)
        for name, room in self.rooms.items():
            room.before_places = places[name]
            room.places = dict(places[name])
        self._begin()
        for attack in self.attacks:
            if attack.later:
                attack.later(self.rooms[attack.name])
        for room in self.rooms.values():
            # Not every peer has attributes, and rclone says EIO where it has none.
            room.truth = {
                path: entry._replace(attributes=None)
                for path, entry in truth_of(room.files).items()
            }
        for name, found in self._end(_SECOND).items():
            self.rooms[name].places = found

    def _begin(self) -> None:
        if not self.is_copied:
            self.mounted.mount()

    def _end(self, first: int) -> dict[str, dict[str, str]]:
        """Unmount; room -> path in it -> place in the store."""
        if self.is_copied:
            self.mounted.run("rclone", "sync", str(self.tree), "peer:", "--create-empty-src-dirs")
            found = self._names()
        else:
            marks = mark(self.tree, first)
            self.mounted.umount()
            found = places_of(self.mounted.store, marks)
        return {
            name: {
                os.path.relpath(path, room.files.name): place
                for path, place in found.items()
                if path == room.files.name or path.startswith(f"{room.files.name}/")
            }
            for name, room in self.rooms.items()
        }

    def _names(self) -> dict[str, str]:
        """As the program itself encrypts them: each part of a path by itself, ten at a time."""
        paths = [path for path in truth_of(self.tree) if path != "."]
        parts = sorted({part for path in paths for part in path.split("/")})
        encrypted = {}
        for at in range(0, len(parts), _AT_A_TIME):
            some = parts[at : at + _AT_A_TIME]
            told = self.mounted.run("rclone", "cryptdecode", "--reverse", "peer:", *some)
            for line in told.splitlines():
                part, _tab, text = line.partition("\t")
                encrypted[part.strip()] = text.strip()
        return {path: "/".join(encrypted[part] for part in path.split("/")) for path in paths}

    def _whole_store(self) -> str:
        """On the same client, which may remember something; then all is as it was."""
        kept = self.before.with_name(f"{self.before.name}-kept")
        self.mounted.store.rename(kept)
        subprocess.run(["cp", "-a", self.before, self.mounted.store], check=True)
        code = self.mounted.mount()
        told = f"exit {code}"
        if not code:
            room = self.rooms["older file put back"]
            with suppress(OSError):
                told = "EIO"
                found = (self.mounted.mountpoint / room.files.name / "file").read_bytes()
                told = OK if found == room.truth["file"].content else ACCEPTED
        self.mounted.umount()
        shutil.rmtree(self.mounted.store)
        kept.rename(self.mounted.store)
        return told

    def _look(self, attack: Attack) -> str:
        room = self.rooms[attack.name]
        files = self.mounted.mountpoint / room.files.name
        seen = look(files, room.truth, room.shape.plain)
        return outcome([one for one in seen.values() if one.step != OK])
