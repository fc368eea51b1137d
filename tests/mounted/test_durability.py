"""What a program asked to be on the disk is there: the power of the store's disk is cut at once.

Every way of asking alone, on a disk of its own: a sync of one file often carries others along.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.crash.power.disk import Disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.mounted.driving import Driven

pytestmark = [pytest.mark.mounted, pytest.mark.timeout(120)]

OLD, NEW = b"old " * 5000, b"new " * 1024


@pytest.fixture(scope="module")
def formatted(base: Path) -> Iterator[Disk]:
    """An empty disk, not mounted: to be copied."""
    disk = Disk(base / "durability", "empty", "ext4", mib=32).make()
    disk.umount()
    yield disk
    disk.destroy()


@pytest.fixture
def disk(base: Path, formatted: Disk) -> Iterator[Disk]:
    disk = Disk(base / "durability", "disk", "ext4").copy_of(formatted)
    yield disk
    disk.destroy()


@pytest.fixture
def placed(disk: Disk, fresh: Callable[..., Driven]) -> Iterator[Driven]:
    """A mounted store with a folder and a file `old` in it, on that disk, all of it synced."""
    driven = fresh(backing=disk.place)
    mount = driven.mount()
    (mount / "folder").mkdir()
    (mount / "folder" / "old").write_bytes(OLD)
    disk.sync()
    yield driven
    driven.end_mount()


def after(disk: Disk, driven: Driven) -> Path:
    """The folder, once the power is back; the driver was killed with the disk."""
    driven.kill()
    disk.umount()
    disk.mount()
    return driven.mount() / "folder"


def cut_while_open(disk: Disk, path: Path, flags: int, work: Callable[[int], object]) -> None:
    """The power goes right after `work`, before a close could write anything."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
    try:
        work(descriptor)
        disk.cut()
    finally:
        with suppress(OSError):  # there is no disk any more
            os.close(descriptor)


@pytest.mark.parametrize(("flag", "name"), [("O_SYNC", "made"), ("O_DSYNC", "old")])
def test_a_write_to_a_file_that_was_opened_so_returns_once_it_is_on_the_disk(
    disk: Disk, placed: Driven, flag: str, name: str
):
    folder = placed.mountpoint / "folder"
    cut_while_open(disk, folder / name, getattr(os, flag), lambda fd: os.write(fd, NEW))
    found = (after(disk, placed) / name).read_bytes()
    assert found == (NEW + OLD[len(NEW) :] if name == "old" else NEW)


def test_msync_puts_mapped_pages_on_the_disk(disk: Disk, placed: Driven):
    def work(descriptor: int) -> None:
        with mmap.mmap(descriptor, len(OLD)) as pages:
            pages[: len(NEW)] = NEW
            pages.flush()  # msync(MS_SYNC)

    cut_while_open(disk, placed.mountpoint / "folder" / "old", 0, work)
    assert (after(disk, placed) / "old").read_bytes() == NEW + OLD[len(NEW) :]


def test_fsync_of_a_folder_keeps_its_new_names_and_forgets_the_removed_one(
    disk: Disk, placed: Driven
):
    folder = placed.mountpoint / "folder"
    (folder / "made").touch()
    (folder / "below").mkdir()
    (folder / "link").symlink_to("made")
    (folder / "old").unlink()
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    disk.cut()
    found = after(disk, placed)
    assert sorted(os.listdir(found)) == ["below", "link", "made"]
    assert (found / "made").read_bytes() == b""
    assert os.readlink(found / "link") == "made"
    assert os.listdir(found / "below") == []
