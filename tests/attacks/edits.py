"""What the owner of a store does to a file in it: each function is one attack, or half of one.

Functions of a `Room`. Those of the first half know no filesystem, only chunks, files and folders.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.attacks.rooms import remove, replace, swap

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.rooms import Room

# What its user does between the two states of the store


def overwrite_a_chunk(room: Room) -> None:
    with (room.files / "file").open("r+b", buffering=0) as file:
        plain = room.shape.plain
        os.pwrite(file.fileno(), room.content("file", 2)[plain : 2 * plain], plain)


def overwrite_file(room: Room) -> None:
    with (room.files / "file").open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), room.content("file", 2), 0)


def replace_file(room: Room) -> None:
    room.write("new", 2)
    (room.files / "new").rename(room.files / "file")


def unlink_file(room: Room) -> None:
    (room.files / "file").unlink()


def rename_file(room: Room) -> None:
    (room.files / "file").rename(room.files / "renamed")


def rotate(room: Room) -> None:
    rename_file(room)
    room.write("file", 2)


def overwrite_inner(room: Room) -> None:
    with (room.files / "folder/inner").open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), room.content("folder/inner", 2), 0)


# Chunks


def flip(where: str, name: str = "file") -> Callable[[Room], None]:
    """One bit of a chunk's record: nonce, ciphertext or tag."""

    def edit(room: Room) -> None:
        shape = room.shape
        inside = {"nonce": 0, "ciphertext": shape.nonce + 500, "tag": shape.record - 1}[where]
        room.flip(name, room.at(1) + inside)

    return edit


def swap_chunks(room: Room) -> None:
    raw = room.raw("file")
    room.set_record("file", 1, room.record(raw, 2))
    room.set_record("file", 2, room.record(raw, 1))


def chunk_of_another_file(room: Room) -> None:
    room.set_record("file", 1, room.record(room.raw("neighbour"), 1))


def older_chunk(room: Room) -> None:
    room.set_record("file", 1, room.record(room.before("file").read_bytes(), 1))


def zero_chunk(room: Room) -> None:
    room.set_record("file", 1, bytes(room.shape.record))


def punch_chunk(room: Room) -> None:
    place, size = room.now("file"), str(room.shape.record)
    where = ["-o", str(room.at(1)), "-l", size]
    subprocess.run(["fallocate", "--punch-hole", *where, place], check=True, capture_output=True)


# Lengths


def cut_at_a_border(room: Room) -> None:
    os.truncate(room.now("file"), room.at(3))


def cut_in_a_chunk(room: Room) -> None:
    os.truncate(room.now("file"), room.at(3) - 100)


def cut_to_the_header(room: Room) -> None:
    os.truncate(room.now("file"), room.shape.header)


def cut_to_nothing(room: Room) -> None:
    os.truncate(room.now("file"), 0)


def extend_by_zeros(room: Room) -> None:
    room.put("file", room.raw("file") + bytes(room.shape.record))


def extend_by_a_chunk(room: Room) -> None:
    raw = room.raw("file")
    room.put("file", raw + room.record(raw, 1))


# Whole files and folders


def older_file(room: Room) -> None:
    room.put("file", room.before("file").read_bytes())


def older_file_by_name(room: Room) -> None:
    """Another inode, as a sync client or a restore puts it."""
    replace(room.now("file"), room.before("file"))


def put_back_what_was(room: Room) -> None:
    """Where it lay, whatever its user has done with the name since."""
    replace(room.store / room.before_places["file"], room.before("file"))


def give_the_old_name(room: Room) -> None:
    room.now("renamed").rename(room.store / room.before_places["file"])


def copy_to_the_old_name(room: Room) -> None:
    shutil.copy2(room.now("renamed"), room.store / room.before_places["file"])


def older_folder(room: Room) -> None:
    replace(room.now("folder"), room.before("folder"))


def delete(name: str) -> Callable[[Room], None]:
    def edit(room: Room) -> None:
        remove(room.now(name))

    return edit


def swap_names(one: str, other: str) -> Callable[[Room], None]:
    def edit(room: Room) -> None:
        swap(room.now(one), room.now(other))

    return edit


def copy_over(room: Room) -> None:
    shutil.copyfile(room.now("neighbour"), room.now("file"))


def link_over(source: str, name: str) -> Callable[[Room], None]:
    """Two names of one inode: a driver that knows inodes may not see that they are two files."""

    def edit(room: Room) -> None:
        place = room.now(name)
        place.unlink()
        os.link(room.now(source), place, follow_symlinks=False)

    return edit


def copy_to_a_new_name(room: Room) -> None:
    """The nearest one: one letter of the name in the store is another."""
    place = room.now("file")
    name = place.name
    shutil.copyfile(place, place.with_name(("0" if name[0] != "0" else "1") + name[1:]))


def move_file_to_another_folder(room: Room) -> None:
    place = room.now("file")
    place.rename(room.now("folder") / place.name)


def move_folder_into_another(room: Room) -> None:
    place = room.now("folder")
    place.rename(room.now("other folder") / place.name)
