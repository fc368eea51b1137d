"""The attacks on a peer that keeps blocks instead of files (CryFS), as far as they have a meaning.

Such a filesystem unmounts itself at the first violation and remembers it. So each attack gets a
copy of the store, and of what the client remembers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.attacks.looking import HIDDEN, OK, look
from tests.attacks.peeroutcome import OLDER_STORE, outcome
from tests.attacks.peerprograms import Mounted, Program
from tests.attacks.rooms import Room, truth_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ROOM = "room"
NEW_HOST = "older store on a new host"


@dataclass(frozen=True)
class Blocks:
    """Places in a store, of one file and of another."""

    store: Path
    before: Path
    own: list[str]
    others: list[str]

    def write(self, name: str, content: bytes) -> None:
        (self.store / name).write_bytes(content)

    def read(self, name: str) -> bytes:
        return (self.store / name).read_bytes()


def _flip(blocks: Blocks) -> None:
    raw = bytearray(blocks.read(blocks.own[0]))
    raw[len(raw) // 2] ^= 1
    blocks.write(blocks.own[0], raw)


def _swap(blocks: Blocks) -> None:
    one, other = blocks.own[:2]
    raw, others = blocks.read(one), blocks.read(other)
    blocks.write(one, others)
    blocks.write(other, raw)


def _of_another(blocks: Blocks) -> None:
    blocks.write(blocks.own[0], blocks.read(blocks.others[0]))


def _zero(blocks: Blocks) -> None:
    blocks.write(blocks.own[0], bytes(len(blocks.read(blocks.own[0]))))


def _empty(blocks: Blocks) -> None:
    blocks.write(blocks.own[0], b"")


def _older(blocks: Blocks) -> None:
    for name in blocks.own:
        shutil.copyfile(blocks.before / name, blocks.store / name)


def _delete(blocks: Blocks) -> None:
    for name in blocks.own:
        (blocks.store / name).unlink()


def _older_store(blocks: Blocks) -> None:
    shutil.rmtree(blocks.store)
    subprocess.run(["cp", "-a", blocks.before, blocks.store], check=True)


_EDITS: dict[str, Callable[[Blocks], None]] = {
    "chunk modified: ciphertext": _flip,
    "chunks swapped": _swap,
    "chunk of another file": _of_another,
    "chunk zeroed": _zero,
    "cut to nothing": _empty,
    "older file put back": _older,
    "file deleted": _delete,
    OLDER_STORE: _older_store,
    NEW_HOST: _older_store,
}


def _names(store: Path) -> set[str]:
    return {str(one.relative_to(store)) for one in store.rglob("*") if one.is_file()}


class PeerBlocks:
    """One store, and a copy for each attack."""

    def __init__(self, program: Program, folder: Path, backing: Path) -> None:
        self.program, self.folder, self.backing = program, folder, backing
        self.mounted = Mounted(program, folder / "blocks", backing / "blocks")
        self.before = backing / "blocks-before"
        self.room = Room(
            self.mounted.mountpoint / _ROOM, self.mounted.store, program.shape, self.before
        )

    def run(self) -> dict[str, str]:
        """Attack -> what came of it."""
        try:
            own, others = self._build()
        finally:
            self.mounted.end()
        with ThreadPoolExecutor(2) as pool:
            return dict(
                zip(
                    _EDITS,
                    pool.map(lambda name: self._one(name, sorted(own), sorted(others)), _EDITS),
                    strict=True,
                )
            )

    def _build(self) -> tuple[set[str], set[str]]:
        """The blocks of the file that is attacked, and those of all others."""
        mounted, room = self.mounted, self.room
        mounted.init()
        mounted.mount()
        room.files.mkdir()
        room.write("neighbour")
        mounted.umount()
        others = _names(mounted.store) - {"cryfs.config"}
        mounted.mount()
        room.write("file")
        mounted.umount()
        own = _names(mounted.store) - others - {"cryfs.config"}
        subprocess.run(["cp", "-a", mounted.store, self.before], check=True)
        mounted.mount()
        with (room.files / "file").open("r+b") as file:
            file.write(room.content("file", 2))
        room.truth = truth_of(room.files)
        mounted.umount()
        return own, others

    def _one(self, name: str, own: list[str], others: list[str]) -> str:
        place = "".join(one if one.isalnum() else "-" for one in name)
        mounted = Mounted(self.program, self.folder / place, self.backing / place)
        subprocess.run(["cp", "-a", self.mounted.store, mounted.store], check=True)
        if name != NEW_HOST:
            subprocess.run(
                ["cp", "-a", self.mounted.folder / "state", mounted.folder / "state"], check=True
            )
        _EDITS[name](Blocks(mounted.store, self.before, own, others))
        try:
            code = mounted.mount()
            if code:
                return f"exit {code}"
            files = mounted.mountpoint / _ROOM
            seen = look(files, self.room.truth, self.program.shape.plain)
            told = [one for one in seen.values() if one.step != OK]
            if mounted.is_mounted and os.path.isdir(files):
                return outcome(told)
            # What was not found after it had unmounted itself is hidden by nobody.
            return f"{outcome([one for one in told if one.step != HIDDEN])}, then unmounts"
        finally:
            mounted.end()
