"""Attacks on a store as a whole: its documents, its journal, its keys, and the host's memory.

Each gets a copy of the store: after an unmount, or as a kill left it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.attacks.rooms import Entry, remove, replace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.attacks.rooms import Room, Truth
    from tests.mounted.driving import Driven


@dataclass
class Whole:
    """A store that was attacked in whole, and what its owner has beside it."""

    driven: Driven
    room: Room
    """The one folder in it; its older state is the older store's."""
    before: Path
    """The store as it was one mount earlier."""
    other: Path
    """Another store of the same host."""

    @property
    def store(self) -> Path:
        return self.driven.store

    @property
    def control(self) -> Path:
        return self.store / ".ckfs"

    @property
    def host(self) -> Path:
        (folder,) = (self.driven.state / "stores").iterdir()
        return folder


# The store


def older_store(whole: Whole) -> None:
    replace(whole.store, whole.before)


def older_store_but_keystore(whole: Whole) -> None:
    newest = (whole.control / "keystore.json").read_bytes()
    older_store(whole)
    (whole.control / "keystore.json").write_bytes(newest)


def another_store(name: str) -> Callable[[Whole], None]:
    def edit(whole: Whole) -> None:
        replace(whole.store / name, whole.other / name)

    return edit


def older(name: str) -> Callable[[Whole], None]:
    def edit(whole: Whole) -> None:
        replace(whole.store / name, whole.before / name)

    return edit


def flip(name: str, at: int) -> Callable[[Whole], None]:
    """One bit; `at` may count from the end."""

    def edit(whole: Whole) -> None:
        place = whole.store / name
        raw = bytearray(place.read_bytes())
        raw[at] ^= 1
        place.write_bytes(raw)

    return edit


def without(name: str) -> Callable[[Whole], None]:
    def edit(whole: Whole) -> None:
        remove(whole.store / name)

    return edit


def move_a_site(whole: Whole) -> None:
    """The folder of a site takes the place of a folder of another one."""
    place = whole.room.now("folder")
    remove(place)
    whole.room.now("../site").rename(place)


# Documents


def document(member: str, value: object) -> Callable[[Whole], None]:
    def edit(whole: Whole) -> None:
        place = whole.control / "store.json"
        place.write_text(json.dumps(json.loads(place.read_text()) | {member: value}))

    return edit


def _keystore(change: Callable[[dict], object]) -> Callable[[Whole], None]:
    def edit(whole: Whole) -> None:
        place = whole.control / "keystore.json"
        keystore = json.loads(place.read_text())
        change(keystore)
        place.write_text(json.dumps(keystore))

    return edit


def _swap_site_keys(keystore: dict) -> None:
    one, other = keystore["sections"][0]["sites"]
    for member in ("site_keys", "wrapped_metadata_key"):
        one[member], other[member] = other[member], one[member]


def _swap_site_ids(keystore: dict) -> None:
    one, other = keystore["sections"][0]["sites"]
    for member in ("site_id", "root_directory_id"):
        one[member], other[member] = other[member], one[member]


def _drop_a_site(keystore: dict) -> None:
    keystore["sections"][0]["sites"].pop()


def _change_state(keystore: dict) -> None:
    keystore["sections"][0]["policy"]["state"] = 2


def _flip_wrap(keystore: dict) -> None:
    wrap = keystore["sections"][0]["policy"]["tik_generations"][0]["wraps"][0]
    raw = bytearray(base64.b64decode(wrap["wrapped"]))
    raw[-1] ^= 1
    wrap["wrapped"] = base64.b64encode(raw).decode()


def _flip_seal(keystore: dict) -> None:
    section = keystore["sections"][0]
    raw = bytearray(base64.b64decode(section["seal"]))
    raw[0] ^= 1
    section["seal"] = base64.b64encode(raw).decode()


# What leads outside


def _moved_out(whole: Whole, name: str) -> Path:
    target = whole.room.outside / os.path.basename(name)
    shutil.move(whole.store / name, target)
    return target


def symlink_for(name: str) -> Callable[[Whole], None]:
    def edit(whole: Whole) -> None:
        (whole.store / name).symlink_to(_moved_out(whole, name))

    return edit


def fifo_for(name: str) -> Callable[[Whole], None]:
    def edit(whole: Whole) -> None:
        (whole.store / name).unlink()
        os.mkfifo(whole.store / name)

    return edit


def symlink_for_the_quarantine(whole: Whole) -> None:
    """What a repair moves away would land outside."""
    target = whole.room.outside / "quarantine"
    target.mkdir()
    (whole.control / "quarantine").symlink_to(target)
    whole.room.put("folder/inner", b"damaged")


# The host's memory: nothing that the store's owner could do


def forget_content(whole: Whole) -> None:
    for place in whole.host.glob("contentdb.sqlite*"):
        place.unlink()


def forget_store(whole: Whole) -> None:
    shutil.rmtree(whole.host)


def older_store_on_a_new_host(whole: Whole) -> None:
    older_store(whole)
    forget_store(whole)


# After a kill


YOUNG = ("young", "second young")
EVEN = "whole chunks"


def even_content(room: Room) -> bytes:
    """What more is appended to it is written in place (FORMAT.md 3.4)."""
    return room.content(EVEN)[: 4 * room.shape.plain]


def work(room: Room) -> Truth:
    """What its user does in the last seconds before the kill, and what is there then."""
    plain = room.shape.plain
    chunk = room.content("file", 3)[plain : 2 * plain]
    with (room.files / "file").open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), chunk, plain)
        os.fsync(file.fileno())
    for name in YOUNG:
        room.write(name)
    with (room.files / EVEN).open("ab", buffering=0) as file:
        file.write(chunk)
    (room.files / "gone").unlink()
    old = room.content("file", 2)
    contents = {name: room.content(name) for name in YOUNG}
    contents[EVEN] = even_content(room) + chunk
    contents["file"] = old[:plain] + chunk + old[2 * plain :]
    return {name: Entry(stat.S_IFREG, content) for name, content in contents.items()}


def cut_journal(whole: Whole) -> None:
    for place in (whole.control / "journal").iterdir():
        os.truncate(place, 80 + 300)


def flip_journal(whole: Whole) -> None:
    """In the first transaction of both files, wherever there is one."""
    for place in (whole.control / "journal").iterdir():
        raw = bytearray(place.read_bytes())
        if len(raw) > 80 + 700:
            raw[80 + 700] ^= 1
            place.write_bytes(raw)


def on_file(edit: Callable[[Room], object]) -> Callable[[Whole], object]:
    return lambda whole: edit(whole.room)


def empty_young(whole: Whole) -> None:
    os.truncate(whole.room.now("young"), 0)


def zero_in_young(whole: Whole) -> None:
    room = whole.room
    room.set_record("young", 1, bytes(room.shape.record))


def delete_neighbour(whole: Whole) -> None:
    whole.room.now("neighbour").unlink()


def put_back_last_commit(whole: Whole) -> None:
    whole.room.put(EVEN, whole.room.before(EVEN).read_bytes())


def put_back_gone(whole: Whole) -> None:
    shutil.copy2(whole.room.before("gone"), whole.store / whole.room.before_places["gone"])


def swap_young(whole: Whole) -> None:
    one, other = whole.room.now("young"), whole.room.now("second young")
    aside = one.with_name("ckfs-aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
