"""The script that other encrypting filesystems were measured with, and nested new folders.

A: written, fsync. B: written only. dir/C: fsync of C, dir and the folder above. A name of 140
characters: fsync. E: fsync, then overwritten without. dir2/D: fsync of D alone. Beyond it: a name
of 200 characters, and a file three new folders down, fsync of it alone.
"""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING

from tests.crash.power.content import written
from tests.crash.power.program import Found, Rules, Verdict, sync_folder, write_synced

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.crash.power.ledger import Ledger, Step

SIZE = 9000
_DEEP = "one/two/three"
SYNCED = {"A": "A", "C": "dir/C", "L": "L" * 140, "E": "E", "D": "dir2/D"}
BEYOND = {"M": "M" * 200, "F": f"{_DEEP}/F"}


def _content(name: str, version: int = 0) -> bytes:
    return written(f"six-{name}", version, 0, SIZE)


def script(place: Path, ledger: Ledger, turn: int = 0, *, beyond: bool = True) -> None:
    """Once, in a folder of its own."""
    with ledger.step("A", turn):
        write_synced(place / "A", _content("A"))
    with ledger.step("B", turn):
        (place / "B").write_bytes(_content("B"))
    (place / "dir").mkdir()
    with ledger.step("C", turn):
        write_synced(place / "dir/C", _content("C"))
        sync_folder(place / "dir")
        sync_folder(place)
    with ledger.step("L", turn):
        write_synced(place / SYNCED["L"], _content("L"))
    with ledger.step("E", turn):
        write_synced(place / "E", _content("E"))
    with (place / "E").open("r+b", buffering=0) as file:
        with ledger.step("over E", turn):
            os.pwrite(file.fileno(), _content("E", 1)[:4096], 0)
    (place / "dir2").mkdir()
    with ledger.step("D", turn):
        write_synced(place / "dir2/D", _content("D"))
    if beyond:
        with ledger.step("M", turn):
            write_synced(place / BEYOND["M"], _content("M"))
        (place / _DEEP).mkdir(parents=True)
        with ledger.step("F", turn):
            write_synced(place / BEYOND["F"], _content("F"))


def judge_script(steps: list[Step], found: Found, *, all_of_it: bool) -> dict[str, str]:
    """Letter -> what is wrong with it, empty for nothing, of what was acknowledged.

    `all_of_it`: without an fsync, too.
    """
    verdict = {}
    done = {step.verb for step in steps if step.done}
    paths = {**SYNCED, **BEYOND} | ({"B": "B"} if all_of_it else {})
    for letter in done & set(paths):
        data = found.files.get(paths[letter])
        whole = _content(letter)
        good = [whole]
        if letter == "E":
            good.append(_content("E", 1)[:4096] + whole[4096:])
            good = good[-1:] if all_of_it and "over E" in done else good
        verdict[letter] = (
            "gone" if data is None else "" if data in good else f"other content ({len(data)})"
        )
    return verdict


class SixFiles:
    """The script again and again, each time in a new folder."""

    name = "sixfiles"

    def prepare(self, place: Path) -> None:
        pass

    def run(self, place: Path, ledger: Ledger, _order: random.Random) -> None:
        for turn in count():
            (place / str(turn)).mkdir()
            script(place / str(turn), ledger, turn)

    def judge(self, steps: list[Step], found: Found, rules: Rules) -> Verdict:
        verdict = Verdict()
        for turn in {step.facts[0] for step in steps}:
            own = [step for step in steps if step.facts[0] == turn]
            told = judge_script(own, found.below(str(turn)), all_of_it=rules.every_step_is_durable)
            verdict.wrong += [f"{turn}/{name} is {what}" for name, what in told.items() if what]
            verdict.counts["synced files"] += len(told)
        return verdict
