"""What a program meets in a room after an attack: everything in it is looked at, step by step.

Every byte that a read gives is compared with the truth. Nothing here fails: it is told what was
seen, and where it was refused first.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.attacks.rooms import Entry, attributes_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.rooms import Truth

OK = "ok"
ACCEPTED = "accepted"
HIDDEN = "hidden"
STEPS = (
    "mount",
    "listing",
    "lookup",
    "enter",
    "open",
    "readlink",
    "read",
    "full read",
    "attribute",
)
"""Where something can be found, in the order in which a program comes by."""
FOREIGN = ".ckfs-foreign"


@dataclass(frozen=True)
class Seen:
    """Of one path: OK, ACCEPTED, HIDDEN, or the step that found it."""

    step: str
    code: int = 0
    """The errno, if there was one."""
    note: str = ""
    wrong: int = 0
    """Bytes given out that are not the truth."""

    def __str__(self) -> str:
        code = f" {errno.errorcode.get(self.code, self.code)}" if self.code else ""
        return f"{self.step}{code}" + (f" ({self.note})" if self.note else "")


def look(files: Path, truth: Truth, piece: int) -> dict[str, Seen]:
    """Path -> what was seen of it; `piece` is how much is read at a time."""
    seen: dict[str, Seen] = {}
    _enter(files, ".", truth, piece, seen)
    return seen


def _enter(files: Path, path: str, truth: Truth, piece: int, seen: dict[str, Seen]) -> None:
    below = [one for one in truth if one != "." and (os.path.dirname(one) or ".") == path]
    try:
        names = os.listdir(files / path)
    except OSError as error:
        told = Seen("enter", error.errno or 0)
        prefix = "" if path == "." else f"{path}/"
        seen |= {one: told for one in truth if one.startswith(prefix) and one != "."}
        seen[path] = told
        return
    seen[path] = Seen(OK)
    listed = {os.path.normpath(os.path.join(path, name)) for name in names}
    for one in sorted(listed | set(below)):
        if one not in truth:
            seen[one] = _extra(files / one)
        elif one not in listed:
            seen[one] = _unlisted(files / one, names, truth[one], piece)
        elif truth[one].kind == stat.S_IFDIR and _is(files / one, stat.S_IFDIR):
            _enter(files, one, truth, piece, seen)
        else:
            seen[one] = _entry(files / one, truth[one], piece)
            if truth[one].kind == stat.S_IFDIR:
                seen |= dict.fromkeys((on for on in truth if on.startswith(f"{one}/")), seen[one])


def _is(place: Path, kind: int) -> bool:
    with suppress(OSError):
        return stat.S_IFMT(place.lstat().st_mode) == kind
    return False


def _unlisted(place: Path, names: list[str], truth: Entry, piece: int) -> Seen:
    """Its own name may still lead to it, if something foreign is listed in its place."""
    told = _entry(place, truth, piece)
    if told.step in (OK, "lookup") and any(name.endswith(FOREIGN) for name in names):
        return Seen("listing", told.code, f"listed as foreign; by its name: {told.step}")
    return Seen(HIDDEN) if told.step in (OK, HIDDEN) else told


def _extra(place: Path) -> Seen:
    """Nobody made it: it must be shown as what it is, or be refused."""
    try:
        kind = stat.S_IFMT(place.lstat().st_mode)
        if kind == stat.S_IFDIR:
            os.listdir(place)
        elif kind == stat.S_IFLNK:
            os.readlink(place)
        elif kind == stat.S_IFREG:
            place.read_bytes()
        elif place.name.endswith(FOREIGN):
            return Seen("listing", note="shown as foreign")
        else:
            return Seen(ACCEPTED, note="a node that nobody made")
    except OSError as error:
        if place.name.endswith(FOREIGN):
            return Seen("listing", error.errno or 0, "shown as foreign")
        step = {stat.S_IFDIR: "enter", stat.S_IFLNK: "readlink"}.get(kind, "open")
        return Seen(step, error.errno or 0, "nobody made it")
    return Seen(ACCEPTED, note="an entry that nobody made")


def _entry(place: Path, truth: Entry, piece: int) -> Seen:
    try:
        status = place.lstat()
    except OSError as error:
        return Seen(HIDDEN if error.errno == errno.ENOENT else "lookup", error.errno or 0)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFLNK:
        return _link(place, truth)
    if kind == stat.S_IFREG and (status.st_nlink, stat.S_IMODE(status.st_mode)) == (0, 0):
        return _lost(place)
    if kind != truth.kind:
        return _another_kind(place, kind)
    if kind != stat.S_IFREG:
        return Seen(OK)
    return _file(place, truth, piece)


def _link(place: Path, truth: Entry) -> Seen:
    try:
        target = os.fsencode(os.readlink(place))
    except OSError as error:
        return Seen("readlink", error.errno or 0)
    if (truth.kind, truth.content) == (stat.S_IFLNK, target):
        return Seen(OK)
    return Seen(ACCEPTED, note="another target", wrong=len(target))


def _lost(place: Path) -> Seen:
    """A file without permissions and links stands for one that was deleted."""
    try:
        os.close(os.open(place, os.O_RDONLY))
    except OSError as error:
        return Seen("lookup", error.errno or 0, "shown as lost")
    return Seen(ACCEPTED, note="as an empty file")


def _another_kind(place: Path, kind: int) -> Seen:
    if kind == stat.S_IFDIR:
        try:
            os.listdir(place)
        except OSError as error:
            return Seen("enter", error.errno or 0, "a folder")
    with suppress(OSError):
        os.close(os.open(place, os.O_RDONLY | os.O_NONBLOCK))
    return Seen(ACCEPTED, note="as another kind of node")


def _file(place: Path, truth: Entry, piece: int) -> Seen:
    try:
        descriptor = os.open(place, os.O_RDONLY)
    except OSError as error:
        return Seen("open", error.errno or 0)
    wrong = at = 0
    try:
        while True:
            given = os.pread(descriptor, piece, at)
            expected = truth.content[at : at + piece]
            if given != expected:
                wrong += max(1, sum(a != b for a, b in zip(given, expected, strict=False)))
            at += piece
            if not given and at >= len(truth.content):
                break
    except OSError as error:
        return Seen("full read" if wrong else "read", error.errno or 0, wrong=wrong)
    finally:
        os.close(descriptor)
    if wrong:
        return Seen(ACCEPTED, note="wrong content", wrong=wrong)
    return Seen(OK) if truth.attributes is None else _attributes(place, truth)


def _attributes(place: Path, truth: Entry) -> Seen:
    try:
        given = attributes_of(place)
    except OSError as error:
        return Seen("attribute", error.errno or 0)
    return Seen(OK) if given == truth.attributes else Seen(ACCEPTED, note="another attribute")
