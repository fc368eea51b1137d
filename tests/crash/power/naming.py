"""Old files and folders renamed, linked and unlinked; files fsynced under their new names."""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING

from tests.crash.power.content import tag_of, written
from tests.crash.power.program import Found, Rules, Verdict, write_synced

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.crash.power.ledger import Ledger, Step

Tree = dict[str, str]
_FOLDERS = ("one", "two", "three")
_LONG = ("n" * 140, "m" * 200)


def _old() -> Tree:
    """Path -> tag of what is there before."""
    tree = {f"{folder}/{folder}-{number}": f"{folder}-{number}" for folder in _FOLDERS
            for number in range(3)}  # fmt: skip
    tree |= {"linked": "linked", "one/linked-too": "linked", "two/" + "k" * 180: "long"}
    return tree


def _content(tag: str) -> bytes:
    return written(tag, 1, 0, 200 + 997 * (len(tag) + ord(tag[-1])) % 9000)


def _moved(tree: Tree, old: str, new: str) -> Tree:
    """A folder has another name."""
    return {
        new + path[len(old) :] if path.startswith(f"{old}/") else path: tag
        for path, tag in tree.items()
    }


class Naming:
    """Which names a file has: those it had at one moment since it was last synced."""

    name = "naming"

    def prepare(self, place: Path) -> None:
        for folder in _FOLDERS:
            (place / folder).mkdir()
        done: dict[str, Path] = {}
        for path, tag in _old().items():
            if tag in done:
                os.link(done[tag], place / path)
            else:
                done[tag] = place / path
                (place / path).write_bytes(_content(tag))

    def run(self, place: Path, ledger: Ledger, order: random.Random) -> None:
        tree = _old()
        folders = list(_FOLDERS)
        for turn in count():
            folder = order.choice((*folders, ""))
            stem = order.choice((f"n{turn}", f"n{turn}", f"{turn}" + order.choice(_LONG)[5:]))
            new = f"{folder}/{stem}" if folder else stem
            path = order.choice(list(tree)) if tree else ""
            verb = order.choice(
                ("create", "rename", "rename", "over", "link", "unlink", "fsync", "folder")
            )
            if len(tree) < 5 or (verb in ("create", "link") and len(tree) < 25):
                verb = "link" if verb == "link" and tree else "create"
            if verb == "create":
                tag = f"tag-{turn}"
                with ledger.step("create", new, tag):
                    write_synced(place / new, _content(tag))
                tree[new] = tag
            elif verb in ("rename", "over"):
                target = order.choice(list(tree)) if verb == "over" else new
                if tree.get(target) == tree[path]:
                    continue  # two links of one file: rename(2) does nothing
                with ledger.step("rename", path, target):
                    (place / path).rename(place / target)
                tree[target] = tree.pop(path)
            elif verb == "link":
                with ledger.step("link", path, new):
                    os.link(place / path, place / new)
                tree[new] = tree[path]
            elif verb == "unlink":
                with ledger.step("unlink", path):
                    (place / path).unlink()
                del tree[path]
            elif verb == "fsync":
                with ledger.step("fsync", path):
                    file = os.open(place / path, os.O_RDWR)
                    try:
                        os.fsync(file)
                    finally:
                        os.close(file)
            else:
                old = folders.pop(order.randrange(len(folders)))
                into = order.choice(folders)
                new = f"{into}/f{turn}" if order.random() < 0.2 and into else f"f{turn}"
                if any(one.startswith(f"{old}/") for one in folders):
                    new = f"f{turn}"
                    folders = [new + one[len(old) :] if one.startswith(f"{old}/") else one
                               for one in folders]  # fmt: skip
                if new.startswith(f"{old}/"):
                    new = f"f{turn}"
                with ledger.step("folder", old, new):
                    (place / old).rename(place / new)
                tree = _moved(tree, old, new)
                folders.append(new)

    def judge(self, steps: list[Step], found: Found, rules: Rules) -> Verdict:
        tree = _old()
        past = [tree]
        durable = dict.fromkeys(tree.values(), 0)  # tag -> from which state on
        for step in steps:
            tree = dict(tree)
            path = step.facts[0]
            if step.verb == "create":
                tree[path] = step.facts[1]
            elif step.verb == "rename":
                tree[step.facts[1]] = tree.pop(path)
            elif step.verb == "folder":
                tree = _moved(tree, path, step.facts[1])
            elif step.verb == "link":
                tree[step.facts[1]] = tree[path]
            elif step.verb == "unlink":
                del tree[path]
            past.append(tree)
            if step.done and rules.every_step_is_durable:
                durable = dict.fromkeys((*durable, *tree.values()), len(past) - 1)
            elif step.done and step.verb in ("create", "fsync"):
                durable[tree[path]] = len(past) - 1
        verdict = Verdict()
        seen: dict[str, set[str]] = {}
        for path, data in found.files.items():
            tag = tag_of(data)
            if tag in durable and data == _content(tag):
                seen.setdefault(tag, set()).add(path)
            elif tag in durable or not any(path in one for one in past):
                verdict.wrong.append(f"{path} has a content of its own: {data[:40]!r}")
        for tag, since in durable.items():
            names = seen.get(tag, set())
            could = [{path for path, one in state.items() if one == tag} for state in past[since:]]
            if names not in could:
                verdict.wrong.append(
                    f"the file {tag} has the names {sorted(names)}; it had "
                    f"{' or '.join(str(sorted(one)) for one in could[-4:])}"
                )
            verdict.counts["synced files"] += 1
            verdict.counts["names"] += len(names)
        return verdict
