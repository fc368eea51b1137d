"""The attacks on rooms against ckfs: one store, one folder of it for each, through the real mount.

Three mounts: the user's first state, of which the owner keeps a copy; the newest one; and the one
that meets what the owner has done since. Attacks beside a mount are made in the third one.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsdriver import errors
from tests.attacks.attack import NO_ATTACK, NOT_FOUND, Attack
from tests.attacks.looking import ACCEPTED, HIDDEN, OK, STEPS, Seen, look
from tests.attacks.rooms import CKFS, Room, mark, places_of, truth_of
from tests.attacks.watching import touched, watch
from tests.mounted.driving import Driven, parse_log, until

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARKS = 1000
_REFUSED = "store.refused"
_WAITING = 20
SECRET = b"of the host, not of the store"


@dataclass
class Result:
    """What came of one attack."""

    attack: Attack
    found: str
    """A step of looking.STEPS, or NOT_FOUND, NO_ATTACK, HIDDEN, ACCEPTED."""
    seen: dict[str, Seen] = field(default_factory=dict)
    """All that was not in order, by path in the room."""
    log: list[dict[str, str]] = field(default_factory=list)
    audit: list[dict[str, Any]] = field(default_factory=list)
    scrub: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int = 0
    said: str = ""
    wrong: list[str] = field(default_factory=list)
    """What is not as the table says; nothing for a row that holds."""

    @property
    def codes(self) -> set[int]:
        return {one.code for one in self.seen.values() if one.code}

    @property
    def kinds(self) -> list[str]:
        """Of the lines in the log."""
        return sorted({line.get("kind", line["event"]) for line in self.log})


def folder_of(attack: Attack) -> str:
    return "".join(one if one.isalnum() else "-" for one in attack.name)


class Rooms:
    """One store with a room for each attack."""

    def __init__(self, driven: Driven, attacks: Sequence[Attack]) -> None:
        self.driven = driven
        self.attacks = attacks
        self.before = driven.backing / "before"
        self.outside = driven.backing / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_bytes(SECRET)
        self.touched: list[str] = []
        """What somebody read or wrote outside the store."""
        self.rooms = {
            attack.name: Room(
                driven.mountpoint / folder_of(attack), driven.store, CKFS, outside=self.outside
            )
            for attack in attacks
        }

    def build(self) -> None:
        """The first state, a copy of the store, the newest state; nothing is mounted then."""
        self.driven.mount()
        for attack in self.attacks:
            room = self.rooms[attack.name]
            room.files.mkdir()
            room.furnish()
            if attack.first:
                attack.first(room)
        marks = self._mark(_MARKS)
        self.driven.umount()
        for name, places in self._places(marks).items():
            self.rooms[name].before_store = self.before
            self.rooms[name].before_places = places
            self.rooms[name].places = dict(places)
        subprocess.run(["cp", "-a", self.driven.store, self.before], check=True)
        self.driven.mount()
        for attack in self.attacks:
            if attack.later:
                attack.later(self.rooms[attack.name])
        marks = self._mark(2 * _MARKS * _MARKS)
        for room in self.rooms.values():
            room.truth = truth_of(room.files)
        self.driven.umount()
        for name, places in self._places(marks).items():
            self.rooms[name].places = places | self.rooms[name].linked

    def _mark(self, first: int) -> dict[int, str]:
        return mark(self.driven.mountpoint, first)

    def _places(self, marks: dict[int, str]) -> dict[str, dict[str, str]]:
        """What lies where in each room."""
        found = places_of(self.driven.store, marks)
        sorted_out: dict[str, dict[str, str]] = {}
        for name, room in self.rooms.items():
            own = room.files.name
            sorted_out[name] = {
                os.path.relpath(path, own): place
                for path, place in found.items()
                if path == own or path.startswith(f"{own}/")
            }
        return sorted_out

    def run(self) -> list[Result]:
        """Attack every room, scrub, mount and look; the store is unmounted in the end."""
        self.build()
        for attack in self.attacks:
            if not attack.live:
                attack.edit(self.rooms[attack.name])
        scrubbed = json.loads(
            self.driven.run("scrub", "--json", self.driven.store, check=False).stdout
        )
        audited = len(self.audit())
        self.driven.refusals()
        log_from = len(self.driven.log())
        self.driven.mount()
        self._attack_beside()
        unread = watch(self.outside)
        seen = self._look(log_from, audited)
        after = self.driven.mountpoint / "after"
        after.write_bytes(b"the mount lives")
        assert after.read_bytes() == b"the mount lives"
        self.driven.umount()
        self.touched = touched(self.outside, unread)
        log = parse_log(self.driven.log()[log_from:])
        self.driven.refusals()
        audit = self.audit()[audited:]
        return [
            judge(
                Result(
                    attack,
                    "",
                    {path: one for path, one in seen[attack.name].items() if one.step != OK},
                    _of(attack, log),
                    [one for one in audit if self._speaks_of(attack, one)],
                    _of(attack, scrubbed["findings"]),
                )
            )
            for attack in self.attacks
        ]

    def _attack_beside(self) -> None:
        """Their rooms are known to the mount; what of them the kernel keeps is forgotten."""
        live = [attack for attack in self.attacks if attack.live]
        for attack in live:
            truth_of(self.rooms[attack.name].files)
        for attack in live:
            attack.edit(self.rooms[attack.name])
        Path("/proc/sys/vm/drop_caches").write_text("1")

    def _look(self, log_from: int, audited: int) -> dict[str, dict[str, Seen]]:
        """Room after room. The audit log gets a bounded number at a time, so it is waited for."""
        seen = {}
        for attack in self.attacks:
            room = self.rooms[attack.name]
            seen[attack.name] = look(room.files, room.truth, CKFS.plain)
            self._wait_for_audit(log_from, audited)
            if attack.shows and not attack.shows(room):
                seen[attack.name]["."] = Seen(HIDDEN, note="the attack has no effect")
        return seen

    def _wait_for_audit(self, log_from: int, audited: int) -> None:
        refused = sum(map(_is_incident, parse_log(self.driven.log()[log_from:])))
        if refused - self._written(audited) > _WAITING:
            until(lambda: self._written(audited) >= refused, "the audit log is written")

    def _written(self, audited: int) -> int:
        return sum(one["event"] == _REFUSED for one in self.audit()[audited:])

    def _speaks_of(self, attack: Attack, record: dict[str, Any]) -> bool:
        """Records name places in the store."""
        place = self.rooms[attack.name].places["."]
        return record["event"].startswith("store.") and f" {place}" in (record["reason"] or "")

    def audit(self) -> list[dict[str, Any]]:
        """Records of the host's audit log."""
        (place,) = self.driven.state.glob("stores/*/audit.log")
        return [json.loads(line) for line in place.read_text().splitlines()]


def _is_incident(line: dict[str, str]) -> bool:
    kind = getattr(errors, line.get("kind", ""), None)
    return kind is not None and issubclass(kind, errors.Damaged)


def _of(attack: Attack, facts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    own = f"/{folder_of(attack)}"
    return [one for one in facts if f"{one.get('path', '')}/".startswith(f"{own}/")]


def judge(result: Result) -> Result:
    """Fill in where it was found, and what is not as the table says."""
    attack, wrong = result.attack, result.wrong
    victims = {path: one for path, one in result.seen.items() if _is_victim(attack, path)}
    extra = {path: one for path, one in result.seen.items() if path not in victims}
    for path, one in extra.items():
        if one.note not in ("shown as foreign", "nobody made it"):
            wrong.append(f"{path} should be in order: {one}")
    result.found = _found(attack, [*victims.values(), *extra.values()])
    if attack.found in (NOT_FOUND, NO_ATTACK):
        if result.found in STEPS and attack.found == NOT_FOUND:
            wrong.append(f"is found at {result.found} now: say so in the table")
        if attack.found == NO_ATTACK:
            result.found = NO_ATTACK
            verdicts = {one["verdict"] for one in result.scrub}
            if verdicts != {"foreign"}:
                wrong.append(f"the scrub calls it {verdicts}")
        return result
    wrong += [f"{path} is not found" for path in attack.victims if path not in result.seen]
    if result.found not in STEPS:
        wrong.append(f"is {result.found}")
    elif STEPS.index(result.found) > STEPS.index(attack.found):
        wrong.append(f"is found at {result.found}, not at {attack.found}")
    given = sum(one.wrong for one in result.seen.values())
    if given and attack.found != "full read":
        wrong.append(f"{given} wrong bytes were given out")
    if (attack.victims and not result.codes) or not result.codes <= set(attack.codes):
        wrong.append(f"ends with errno {sorted(result.codes)}")
    if any(map(_is_incident, result.log)) and not result.audit:
        wrong.append("the audit log has nothing of it")
    if attack.kind not in result.kinds:
        wrong.append(f"the log has {result.kinds}, not {attack.kind}")
    if not result.scrub and not attack.live:
        wrong.append("the scrub does not find it")
    return result


def _is_victim(attack: Attack, path: str) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in attack.victims)


def _found(attack: Attack, seen: list[Seen]) -> str:
    """The last step at which anything of it was found; worse if something was not."""
    steps = {one.step for one in seen}
    for bad in (HIDDEN, ACCEPTED):
        if bad in steps:
            return NOT_FOUND if bad == ACCEPTED and attack.found == NOT_FOUND else bad
    if not steps:
        return NOT_FOUND
    return max(steps, key=STEPS.index)
