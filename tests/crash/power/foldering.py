"""Folders that are fsynced: every name in them is as it was then, or as at one moment since."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from tests.crash.power.program import Found, Rules, Verdict, sync_folder

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.crash.power.ledger import Ledger, Step

_TEXT = "../" + "s" * 80
_VERBS = ("folder", "folder", "file", "file", "link", "rename", "remove", "sync", "sync")


class Foldering:
    """Nothing but names: folders, empty files, symlinks; in an old folder and in a new one."""

    name = "foldering"

    def prepare(self, place: Path) -> None:
        (place / "old-folder").mkdir()
        (place / "old-file").write_bytes(b"old")
        (place / "old-link").symlink_to(_TEXT)

    def run(self, place: Path, ledger: Ledger, order: random.Random) -> None:
        names = {"": ["old-folder", "old-file", "old-link"], "sub": []}
        with ledger.step("folder", "", "sub"):
            (place / "sub").mkdir()
        with ledger.step("sync", ""):
            sync_folder(place)
        for turn in count():
            where = order.choice(("", "sub"))
            folder, known = place / where, names[where]
            verb = order.choice(_VERBS)
            name = f"{verb}-{turn}" + "l" * order.choice((0, 0, 0, 135, 180))
            if verb == "folder":
                with ledger.step("folder", where, name):
                    (folder / name).mkdir()
            elif verb == "file":
                with ledger.step("file", where, name):
                    (folder / name).write_bytes(b"x" * order.choice((0, 7000)))
            elif verb == "link":
                with ledger.step("link", where, name):
                    (folder / name).symlink_to(_TEXT)
            elif verb == "sync":
                with ledger.step("sync", where):
                    sync_folder(folder)
                continue
            elif not known:
                continue
            else:
                old = known.pop(order.randrange(len(known)))
                if verb == "rename":
                    with ledger.step("rename", where, old, name):
                        (folder / old).rename(folder / name)
                else:
                    with ledger.step("remove", where, old):
                        one = folder / old
                        (one.rmdir if one.is_dir() and not one.is_symlink() else one.unlink)()
                    continue
            known.append(name)

    def judge(self, steps: list[Step], found: Found, rules: Rules) -> Verdict:
        past: dict[str, list[set[str]]] = {
            "": [{"old-folder", "old-file", "old-link"}],
            "sub": [set()],
        }
        for step in steps:
            where, *words = step.facts
            states = past[where]
            if step.verb in ("folder", "file", "link"):
                states.append(states[-1] | {words[0]})
            elif step.verb == "rename":
                states.append((states[-1] - {words[0]}) | {words[1]})
            elif step.verb == "remove":
                states.append(states[-1] - {words[0]})
            if step.done and (step.verb == "sync" or rules.every_step_is_durable):
                del states[:-1]
        verdict = Verdict()
        for where, states in past.items():
            if where and where not in found.folders:
                if "sub" in past[""][0]:
                    verdict.wrong.append("the folder sub was synced and is gone")
                continue
            names = found.listing(where)
            verdict.counts["folders"] += 1
            verdict.counts["names"] += len(names)
            if names not in states:
                short = [sorted(one[:24] for one in state ^ names) for state in states[-5:]]
                verdict.wrong.append(
                    f"the folder {where!r} never had these names since it was synced; the "
                    f"differences to its last states: {short}"
                )
        verdict.wrong += [
            f"the link {path} leads to {text!r}"
            for path, text in found.links.items()
            if text != _TEXT
        ]
        return verdict
