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

HARMLESS = "harmless"
"""It changes nothing: everything is as its user left it."""


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


@dataclass(frozen=True)
class StoreAttack:
    """`found` is "mount", a step, HARMLESS, REPORTED or NOT_FOUND."""

    name: str
    what: str
    edit: Callable[[Whole], object]
    rows: tuple[int, ...]
    found: str = "mount"
    exit_code: int = 0
    kind: str = ""
    """Of a line in the log."""
    victims: tuple[str, ...] = ()
    killed: bool = False
    """After a kill, in a folder that the driver was working in."""
    why: str = ""
    due: str = ""
    """What is to be done to our driver before the row holds."""
    repaired: bool = False
    """A `ckfs scrub --repair` goes before the mount."""


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


def work(room: Room) -> Truth:
    """What its user does in the last seconds before the kill, and what is there then."""
    plain = room.shape.plain
    chunk = room.content("file", 3)[plain : 2 * plain]
    with (room.files / "file").open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), chunk, plain)
        os.fsync(file.fileno())
    for name in YOUNG:
        room.write(name)
    (room.files / "gone").unlink()
    old = room.content("file", 2)
    contents = {name: room.content(name) for name in YOUNG}
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


def put_back_gone(whole: Whole) -> None:
    shutil.copy2(whole.room.before("gone"), whole.store / whole.room.before_places["gone"])


def swap_young(whole: Whole) -> None:
    one, other = whole.room.now("young"), whole.room.now("second young")
    aside = one.with_name("ckfs-aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


_CONTROL = "what is no file or folder in the control folder is to be refused as StoreDamaged"
_KEYSTORE, _JOURNAL = ".ckfs/keystore.json", ".ckfs/journal"

STORE_ATTACKS = (
    StoreAttack(
        "older store put back",
        "put back the whole older store",
        older_store_but_keystore,
        (19,),
        exit_code=26,
    ),
    StoreAttack(
        "older store and keystore put back",
        "the same, of before the keystore was changed",
        older_store,
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "store document modified",
        "change the store document",
        document("names", "plaintext"),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "another store's document",
        "put in another store's document",
        another_store(".ckfs/store.json"),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "store document removed",
        "remove the store document",
        without(".ckfs/store.json"),
        (15,),
        exit_code=10,
    ),
    StoreAttack(
        "older keystore put back",
        "put back the keystore of before a site was made",
        older(_KEYSTORE),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "another store's keystore",
        "put in another store's keystore",
        another_store(_KEYSTORE),
        (15,),
        exit_code=12,
    ),
    StoreAttack("keystore removed", "remove the keystore", without(_KEYSTORE), (15,), exit_code=12),
    StoreAttack(
        "keystore: sites' keys swapped",
        "exchange the wrapped keys of two site records",
        _keystore(_swap_site_keys),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "keystore: sites' ids swapped",
        "exchange the ids of two site records",
        _keystore(_swap_site_ids),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "keystore: site removed",
        "remove a site's record",
        _keystore(_drop_a_site),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "keystore: policy's state",
        "change the state of a policy",
        _keystore(_change_state),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "keystore: wrap modified",
        "change one bit of a wrapped tenant key",
        _keystore(_flip_wrap),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "keystore: seal modified",
        "change one bit of a section's seal",
        _keystore(_flip_seal),
        (15,),
        exit_code=12,
    ),
    StoreAttack("journal removed", "remove the journal", without(_JOURNAL), (31,), exit_code=26),
    StoreAttack(
        "older journal put back",
        "put back both files of the journal",
        older(_JOURNAL),
        (31,),
        exit_code=26,
    ),
    StoreAttack(
        "another store's journal",
        "put in both files of another store's journal",
        another_store(_JOURNAL),
        (31,),
        exit_code=26,
    ),
    StoreAttack(
        "one journal file put back",
        "put back one file of the journal",
        older(_JOURNAL + "/a"),
        (32,),
        HARMLESS,
    ),
    StoreAttack(
        "another store's journal file",
        "put in one file of another store's journal",
        another_store(_JOURNAL + "/a"),
        (32,),
        HARMLESS,
    ),
    StoreAttack(
        "journal cut while unmounted", "cut both files of the journal", cut_journal, (32,), HARMLESS
    ),
    StoreAttack(
        "symlink for the journal",
        "move the journal out and leave a symlink to it",
        symlink_for(_JOURNAL),
        (),
        exit_code=12,
        due=_CONTROL,
    ),
    StoreAttack(
        "symlink for a journal file",
        "move a file of the journal out and leave a symlink to it",
        symlink_for(_JOURNAL + "/a"),
        (),
        exit_code=12,
        due=_CONTROL,
    ),
    StoreAttack(
        "FIFO for a journal file",
        "put a FIFO in place of a file of the journal",
        fifo_for(_JOURNAL + "/a"),
        (),
        exit_code=12,
        due=_CONTROL,
    ),
    StoreAttack(
        "symlink for the store document",
        "move the store document out and leave a symlink to it",
        symlink_for(".ckfs/store.json"),
        (15,),
        exit_code=12,
        due=_CONTROL,
    ),
    StoreAttack(
        "symlink for the keystore",
        "move the keystore out and leave a symlink to it",
        symlink_for(_KEYSTORE),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "symlink for the lock",
        "move the lock out and leave a symlink to it",
        symlink_for(".ckfs/lock"),
        (),
        exit_code=12,
        due=_CONTROL,
    ),
    StoreAttack(
        "symlink for the control folder",
        "move the control folder out and leave a symlink to it",
        symlink_for(".ckfs"),
        (),
        exit_code=12,
        due=_CONTROL,
    ),
    StoreAttack(
        "symlink for the quarantine",
        "leave a symlink where a repair would move things to",
        symlink_for_the_quarantine,
        (),
        "open",
        kind="HeaderInvalid",
        victims=("folder/inner",),
        repaired=True,
    ),
    StoreAttack(
        "content database removed",
        "remove the host's record of the store",
        forget_content,
        (35,),
        "reported",
        kind="first sight",
        due="the log is to say that the content database is made anew",
    ),
    StoreAttack(
        "first sight",
        "show the store to a host that knows nothing of it",
        forget_store,
        (35,),
        "reported",
        kind="first sight",
    ),
    StoreAttack(
        "older store on a new host",
        "show the older store to a host that knows nothing of it",
        older_store_on_a_new_host,
        (35,),
        "not found",
        why="the host trusts it, and says so",
    ),
    # After a kill
    StoreAttack("killed: nothing done", "nothing", lambda _whole: None, (), HARMLESS, killed=True),
    StoreAttack(
        "killed: journal cut",
        "cut the journal",
        cut_journal,
        (30,),
        "not found",
        victims=("file",),
        killed=True,
        why="the host commits at checkpoints only",
    ),
    StoreAttack(
        "killed: journal modified",
        "change one bit of a transaction",
        flip_journal,
        (30,),
        "not found",
        victims=("file",),
        killed=True,
        why="the host commits at checkpoints only",
    ),
    StoreAttack(
        "killed: journal removed",
        "remove the journal",
        without(_JOURNAL),
        (31,),
        exit_code=26,
        killed=True,
    ),
    StoreAttack(
        "killed: older journal put back",
        "put back the journal of an earlier session",
        older(_JOURNAL),
        (31,),
        exit_code=26,
        killed=True,
    ),
    StoreAttack(
        "killed: older store put back",
        "put back the whole older store",
        older_store_but_keystore,
        (19,),
        exit_code=26,
        killed=True,
    ),
    StoreAttack(
        "killed: file emptied",
        "empty a file that was made in the last seconds",
        empty_young,
        (28,),
        "reported",
        kind="recovered",
        victims=("young",),
        killed=True,
    ),
    StoreAttack(
        "killed: chunk zeroed",
        "zero a chunk of a file that was made in the last seconds",
        zero_in_young,
        (27,),
        "reported",
        kind="recovered",
        victims=("young",),
        killed=True,
    ),
    StoreAttack(
        "killed: names swapped",
        "exchange two files that were made in the last seconds",
        swap_young,
        (26,),
        "reported",
        kind="recovered",
        victims=("young", "second young"),
        killed=True,
    ),
    StoreAttack(
        "killed: file deleted",
        "delete a file",
        delete_neighbour,
        (29,),
        "reported",
        kind="recovered",
        victims=("neighbour",),
        killed=True,
    ),
    StoreAttack(
        "killed: deleted file put back",
        "put back a file that was deleted in the last seconds",
        put_back_gone,
        (29,),
        "reported",
        kind="recovered",
        victims=("gone",),
        killed=True,
    ),
)
