"""Files replaced by rename: the whole old or the whole new one, with and without an fsync."""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING

from tests.crash.power.content import described, written
from tests.crash.power.program import Found, Rules, Verdict, sync_folder

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.crash.power.ledger import Ledger, Step

_OLD = {"settings": 300, "document": 200_000, "t" * 160: 9000}


class Replacing:
    """What an editor does; some editors sync the new file first, some the folder after."""

    name = "replacing"

    def prepare(self, place: Path) -> None:
        for name, size in _OLD.items():
            (place / name).write_bytes(written(name, 0, 0, size))

    def run(self, place: Path, ledger: Ledger, order: random.Random) -> None:
        for version in count(1):
            name = order.choice(list(_OLD))
            size = order.choice((0, 10, 4096, 70_000, 300_000))
            new = place / f"new-{version}"
            with ledger.step("written", name, version, size):
                with new.open("wb", buffering=0) as file:
                    file.write(written(name, version, 0, size))
                    if order.random() < 0.5:
                        os.fsync(file.fileno())
            with ledger.step("replaced", name, version, size):
                new.rename(place / name)
            if order.random() < 0.3:
                with ledger.step("synced", name):
                    sync_folder(place)

    def judge(self, steps: list[Step], found: Found, rules: Rules) -> Verdict:
        could = {name: [(0, size)] for name, size in _OLD.items()}
        for step in steps:
            if step.verb == "replaced":
                name, version, size = step.facts
                could[name].append((version, size))
                if step.done and rules.every_step_is_durable:
                    could[name] = could[name][-1:]
            elif step.verb == "synced" and step.done:
                could = {name: versions[-1:] for name, versions in could.items()}
        verdict = Verdict()
        for name, versions in could.items():
            data = found.files.get(name)
            verdict.counts["replaced files"] += 1
            if data is None:
                verdict.wrong.append(f"{name} is gone; it had been replaced, never removed")
            elif not any(data == written(name, version, 0, size) for version, size in versions):
                verdict.wrong.append(
                    f"{name} is neither a whole old nor a whole new one: {len(data)} bytes, "
                    f"[{described(data, 0)}]; possible were (write, size) {versions[-4:]}"
                )
        return verdict
