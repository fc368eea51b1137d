"""Attacks on what only our format has: headers, records, sidecars, bindings."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from tests.attacks.rooms import remove, replace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.attacks.rooms import Room

HEADER = 512
RECORD = ".ckfs-dir"
LONG = "long name " * 20
FIELDS = {
    # Offset of a byte of each field of the clear part, and of the sealed one (FORMAT.md 3).
    "magic": 0,
    "record type": 4,
    "format version": 5,
    "lowest reader": 6,
    "flags": 7,
    "chunk bits": 8,
    "filler": 9,
    "site-key generation": 15,
    "file id": 16,
    "site id": 32,
    "wrapped file key": 48,
    "key commitment": 96,
    "nonce": 128,
    "sealed part": 200,
}
OTHERS_FIELDS = {"file id": (16, 32), "wrapped file key": (48, 96), "key commitment": (96, 128)}


def header(raw: bytes | bytearray) -> bytes:
    return bytes(raw[:HEADER])


def put_header(room: Room, name: str, new: bytes) -> None:
    room.put(name, new + room.raw(name)[HEADER:])


# Headers


def make_files(*names: str) -> Callable[[Room], None]:
    def later(room: Room) -> None:
        for name in names:
            (room.files / name).write_bytes(name.encode())

    return later


def change_each_field(room: Room) -> None:
    for name, at in FIELDS.items():
        room.flip(name, at)


def take_fields_of_another(room: Room) -> None:
    other = room.raw("neighbour")
    for name, (start, end) in OTHERS_FIELDS.items():
        raw = room.raw(name)
        raw[start:end] = other[start:end]
        room.put(name, raw)


def header_of_another_file(room: Room) -> None:
    put_header(room, "file", header(room.raw("neighbour")))


def older_header(room: Room) -> None:
    put_header(room, "file", header(room.before("file").read_bytes()))


def show_a_dirty_header(room: Room) -> None:
    """Whole chunks behind the end are written in place under a dirty header: anybody sees it."""
    place = room.now("file")
    plain = room.shape.plain
    os.truncate(room.files / "file", 4 * plain)
    descriptor = os.open(room.files / "file", os.O_RDWR)
    os.fsync(descriptor)
    for turn in range(2):
        os.pwrite(descriptor, bytes(plain), (4 + turn) * plain)
        room.stash["dirty"] = header(place.read_bytes())
    os.ftruncate(descriptor, 4 * plain)
    os.close(descriptor)


def put_back_the_dirty_header(room: Room) -> None:
    put_header(room, "file", room.stash["dirty"])


# Folders


def flip_record(room: Room) -> None:
    place = room.now("folder") / RECORD
    raw = bytearray(place.read_bytes())
    raw[50] ^= 1
    place.write_bytes(raw)


def cut_record(room: Room) -> None:
    os.truncate(room.now("folder") / RECORD, 50)


def delete_record(room: Room) -> None:
    (room.now("folder") / RECORD).unlink()


def swap_records(room: Room) -> None:
    one, other = room.now("folder") / RECORD, room.now("other folder") / RECORD
    raw, others = one.read_bytes(), other.read_bytes()
    one.write_bytes(others)
    other.write_bytes(raw)


def rename_folder_and_back(room: Room) -> None:
    (room.files / "folder").rename(room.files / "aside")
    (room.files / "aside").rename(room.files / "folder")


def older_record(room: Room) -> None:
    shutil.copyfile(room.before("folder") / RECORD, room.now("folder") / RECORD)


def rename_folder(room: Room) -> None:
    (room.files / "folder").rename(room.files / "renamed")


def give_the_folder_its_old_name(room: Room) -> None:
    room.now("renamed").rename(room.store / room.before_places["folder"])


# Sidecars


def make_long(room: Room) -> None:
    room.write(LONG)


def sidecar(room: Room) -> Path:
    place = room.now(LONG)
    return place.with_name(place.name.replace(".ckfs-long.", ".ckfs-name."))


def flip_sidecar(room: Room) -> None:
    place = sidecar(room)
    text = bytearray(place.read_bytes())
    text[20] ^= 1
    place.write_bytes(text)


def delete_sidecar(room: Room) -> None:
    sidecar(room).unlink()


# Symlinks and links


def make_links(room: Room) -> None:
    for name, target in (("link", "file"), ("other link", "neighbour")):
        (room.files / name).symlink_to(target)


def link_elsewhere(room: Room) -> None:
    """The link is in the older state of the store already."""
    (room.files / "link").unlink()
    (room.files / "link").symlink_to("neighbour")


def older_link(room: Room) -> None:
    replace(room.now("link"), room.before("link"))


def link_three_times(room: Room) -> None:
    make_links(room)
    for name in ("second", "third"):
        os.link(room.files / "link", room.files / name, follow_symlinks=False)


def unbound_link(room: Room) -> None:
    replace(room.now("other link"), room.now("third"))


def link_five_times(room: Room) -> None:
    for name in ("second", "third", "fourth", "fifth"):
        os.link(room.files / "file", room.files / name)


def unbound_file(room: Room) -> None:
    """Of several names of one file or symlink the last in the alphabet is found (rooms.mark)."""
    shutil.copyfile(room.now("third"), room.now("neighbour"))


def link_and_unlink(room: Room) -> None:
    room.made("second", lambda: os.link(room.files / "file", room.files / "second"))
    (room.files / "second").unlink()


def put_back_the_link(room: Room) -> None:
    os.link(room.now("file"), room.now("second"))


def link_once(room: Room) -> None:
    room.made("second", lambda: os.link(room.files / "file", room.files / "second"))


def break_the_link(room: Room) -> None:
    place = room.now("second")
    content = place.read_bytes()
    place.unlink()
    place.write_bytes(content)


# What leads outside


def put_outside(room: Room, name: str) -> Path:
    """The entry itself, moved out of the store, so that whoever follows finds what he looks for."""
    target = room.outside / f"{room.files.name}-{os.path.basename(name)}"
    shutil.move(room.now(name), target)
    return target


def symlink_for(name: str) -> Callable[[Room], None]:
    def edit(room: Room) -> None:
        room.now(name).symlink_to(put_outside(room, name))

    return edit


def symlink_to_the_host(room: Room) -> None:
    remove(room.now("file"))
    room.now("file").symlink_to(room.outside / "secret")


def symlink_for_the_record(room: Room) -> None:
    place = room.now("folder") / RECORD
    target = room.outside / f"{room.files.name}-record"
    shutil.move(place, target)
    place.symlink_to(target)


def symlink_for_the_sidecar(room: Room) -> None:
    place = sidecar(room)
    target = room.outside / f"{room.files.name}-sidecar"
    shutil.move(place, target)
    place.symlink_to(target)


# What is not a file at all


def fifo_for(find: Callable[[Room], Path]) -> Callable[[Room], None]:
    def edit(room: Room) -> None:
        place = find(room)
        place.unlink()
        os.mkfifo(place)

    return edit


def make_node(room: Room) -> None:
    os.mkfifo(room.files / "node")


def device_for_node(room: Room) -> None:
    place = room.now("node")
    place.unlink()
    os.mknod(place, 0o020644, os.makedev(1, 3))


def plant_fifo(room: Room) -> None:
    os.mkfifo(room.now(".") / room.now("file").name[::-1])


# Attributes and status


def set_attributes(value: bytes) -> Callable[[Room], None]:
    def later(room: Room) -> None:
        os.setxattr(room.files / "file", "user.colour", value)
        os.setxattr(room.files / "neighbour", "user.colour", b"red")

    return later


def older_attribute(room: Room) -> None:
    (name,) = os.listxattr(room.now("file"))
    os.setxattr(room.now("file"), name, os.getxattr(room.before("file"), name))


def delete_attribute(room: Room) -> None:
    (name,) = os.listxattr(room.now("file"))
    os.removexattr(room.now("file"), name)


def attribute_of_another(room: Room) -> None:
    (name,), (other,) = os.listxattr(room.now("file")), os.listxattr(room.now("neighbour"))
    os.setxattr(room.now("file"), name, os.getxattr(room.now("neighbour"), other))


def change_status(room: Room) -> None:
    place = room.now("file")
    os.chown(place, 4321, 4321)
    place.chmod(0o4777)
    os.utime(place, (1, 2))


def has_another_status(room: Room) -> bool:
    status = (room.files / "file").stat()
    return (status.st_mode & 0o7777, status.st_uid, status.st_mtime) == (0o4777, 4321, 2)


def has_one_link(room: Room) -> bool:
    return (room.files / "second").stat().st_nlink == 1


# No attack


def conflict_copy(room: Room) -> None:
    place = room.now("file")
    shutil.copy2(place, place.with_name(f"{place.name}.sync-conflict-20261122-101112-ABCDEFG"))
