"""Runs the attacks on whole stores: a copy of one store for each, and the real mount."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.attacks.looking import OK, STEPS, Seen, look
from tests.attacks.quick import Commander, QuickDriven
from tests.attacks.rooms import CKFS, Room, mark, places_of, truth_of
from tests.attacks.storetable import HARMLESS, StoreAttack
from tests.attacks.watching import touched, watch
from tests.attacks.wholestore import EVEN, YOUNG, Whole, even_content, work
from tests.mounted.driving import Driven, parse_log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_AT_ONCE = 2
_KILLS = 5
_TIMES = 1000
_ROOM = "room"


@dataclass
class WholeResult:
    """What came of one attack on a whole store."""

    attack: StoreAttack
    found: str = ""
    exit_code: int = 0
    said: str = ""
    """On standard error, by a mount that was refused."""
    seen: dict[str, Seen] = field(default_factory=dict)
    log: list[dict[str, str]] = field(default_factory=list)
    audit: list[str] = field(default_factory=list)
    """Events of the audit log about it."""
    wrong: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        return sorted({line.get("kind", line["event"]) for line in self.log})


@dataclass
class _Base:
    """A store to be copied, and the older one."""

    driven: Driven
    room: Room


def copied(
    source: Driven, folder: Path, backing: Path, commander: Callable[[], Commander] | None = None
) -> Driven:
    """The same store and host elsewhere, times and inodes' links included."""
    backing.mkdir()
    driven = QuickDriven(folder, backing, commander=commander)
    for old, new in ((source.store, driven.store), (source.state, driven.state)):
        subprocess.run(["cp", "-a", old, new], check=True)
    return driven


def _epochs(driven: Driven) -> list[bytes]:
    """Of both files of the journal (FORMAT.md 11.2); a checkpoint begins one anew."""
    return [(driven.store / ".ckfs/journal" / name).read_bytes()[8:16] for name in "ab"]


def _audit(driven: Driven) -> list[str]:
    """Events of the host's audit log of the store."""
    lines = [one.read_text().splitlines() for one in driven.state.glob("stores/*/audit.log")]
    return [json.loads(line)["event"] for log in lines for line in log]


class Wholes:
    """`folder` is for mount points and hosts, `backing` for stores."""

    def __init__(self, folder: Path, backing: Path) -> None:
        self.folder, self.backing = folder, backing
        self.driven: list[Driven] = []
        self._local = threading.local()
        self._commanders: list[Commander] = []

    def _new(self, name: str) -> Driven:
        place = self.backing / name
        place.mkdir()
        self.driven.append(Driven(self.folder / name, place))
        return self.driven[-1]

    def build(self) -> tuple[_Base, _Base, Path]:
        """The store after an unmount, the same after a kill, and another store."""
        other = self._new("other").init("--chunk-size", "4096")
        other.mount()
        (other.mountpoint / "file").write_bytes(b"another store's")
        other.umount()
        driven = self._new("base").init("--chunk-size", "4096")
        room = Room(driven.mount() / _ROOM, driven.store, CKFS)
        room.files.mkdir()
        room.furnish()
        room.write("gone")
        (room.files / EVEN).write_bytes(even_content(room))
        marks = mark(driven.mountpoint, _TIMES)
        driven.umount()
        room.before_store = self.backing / "before"
        room.before_places = self._places(driven, marks)
        subprocess.run(["cp", "-a", driven.store, room.before_store], check=True)
        driven.mount()
        room.write("file", 2)
        driven.run("site", "create", driven.mountpoint / "site", "--workload", "onedrive")
        marks = mark(driven.mountpoint, _TIMES**2)
        room.truth = truth_of(room.files)
        driven.umount()
        room.places = self._places(driven, marks)
        return _Base(driven, room), self._killed(driven, room), other.store

    def _killed(self, driven: Driven, room: Room) -> _Base:
        """No checkpoint came between the work and the kill, or it is done again."""
        for turn in range(_KILLS):
            name = f"killed-{turn}"
            killed = copied(driven, self.folder / name, self.backing / name)
            self.driven.append(killed)
            after = Room(killed.mount() / _ROOM, killed.store, CKFS, room.before_store)
            after.before_places, after.places = room.before_places, dict(room.places)
            epochs = _epochs(killed)
            after.truth = room.truth | work(after)
            del after.truth["gone"]
            for young in YOUNG:
                place = killed.backing_of(after.files / young)
                after.places[young] = os.path.relpath(place, killed.store)
            killed.kill()
            if _epochs(killed) == epochs:
                return _Base(killed, after)
        raise AssertionError("the machine is too slow to be killed within five seconds")

    def _places(self, driven: Driven, marks: dict[int, str]) -> dict[str, str]:
        found = places_of(driven.store, marks)
        return {os.path.relpath(path, _ROOM): place for path, place in found.items()}

    def run(self, attacks: Sequence[StoreAttack]) -> list[WholeResult]:
        unmounted, killed, other = self.build()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            results = list(
                pool.map(
                    lambda attack: self._one(attack, killed if attack.killed else unmounted, other),
                    attacks,
                )
            )
        for commander in self._commanders:
            commander.close()
        return results

    def _commander(self) -> Commander:
        """Of this thread."""
        if not hasattr(self._local, "commander"):
            self._local.commander = Commander()
            self._commanders.append(self._local.commander)
        commander: Commander = self._local.commander
        return commander

    def _one(self, attack: StoreAttack, base: _Base, other: Path) -> WholeResult:
        name = "".join(one if one.isalnum() else "-" for one in attack.name)
        driven = copied(base.driven, self.folder / name, self.backing / name, self._commander)
        self.driven.append(driven)
        outside = self.backing / f"{name}-outside"
        outside.mkdir()
        room = Room(
            driven.mountpoint / _ROOM,
            driven.store,
            CKFS,
            base.room.before_store,
            base.room.places,
            base.room.before_places,
            truth=base.room.truth,
            outside=outside,
        )
        assert room.before_store is not None
        result = WholeResult(attack)
        log_from = len(driven.log())
        attack.edit(Whole(driven, room, room.before_store, other))
        audited = len(_audit(driven))
        unread = watch(outside)
        if attack.repaired:
            done = driven.run("scrub", "--repair", "--yes", driven.store, check=False)
            result.said = done.stdout + done.stderr
        done = driven.run(
            "mount", "--log-file", driven.log_place, driven.store, driven.mountpoint, check=False
        )
        result.exit_code = done.returncode
        if done.returncode:
            result.said += (done.stdout + done.stderr).strip()
        else:
            seen = look(room.files, room.truth, CKFS.plain)
            result.seen = {path: one for path, one in seen.items() if one.step != OK}
            driven.umount()
        result.log = [
            line for line in parse_log(driven.log()[log_from:]) if line.get("level") != "info"
        ]
        driven.refusals()
        result.audit = [one for one in _audit(driven)[audited:] if one.startswith("store.")]
        result.wrong += [
            f"{os.path.basename(one)} outside the store was read or written"
            for one in touched(outside, unread)
        ]
        return judge(result)


def judge(result: WholeResult) -> WholeResult:
    """Fill in where it was found, and what is not as the table says."""
    attack, wrong = result.attack, result.wrong
    steps = {one.step for one in result.seen.values()}
    if result.exit_code:
        result.found = "mount"
        if result.exit_code != attack.exit_code:
            wrong.append(f"ends with exit code {result.exit_code}")
        if "Traceback" in result.said or "unexpected" in result.said:
            wrong.append(f"says {result.said}")
    elif attack.kind and attack.kind in result.kinds and attack.found == "reported":
        result.found = "reported"
    elif not steps:
        result.found = HARMLESS
    elif steps <= set(STEPS):
        result.found = max(steps, key=STEPS.index)
    else:
        result.found = "not found"
    if result.found != attack.found:
        wrong.append(f"is {result.found}, not {attack.found}")
    if attack.kind and not result.exit_code and attack.kind not in result.kinds:
        wrong.append(f"the log has {result.kinds}, not {attack.kind}")
    if attack.victims:
        wrong += [
            f"{path} should be in order: {one}"
            for path, one in result.seen.items()
            if path not in attack.victims
        ]
    return result
