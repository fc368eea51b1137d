"""Checkpoints under a filesystem: what goes wrong in one, and what a stop between two leaves."""

import errno
import os
import pathlib

import pytest
from driver import CALLER, Driver

from fsdriver import durability
from fsdriver.backing import RENAME_EXCHANGE, Backing
from fsdriver.changes import Changes
from fsdriver.errors import Damaged, Recovered, StoreBusy
from fsdriver.format.geometry import HEADER_SIZE
from fsdriver.inodes import ROOT

SIZE, STRIDE = 4096, 4136
FSYNC = -1


class Watching(Backing):
    """A store that says what was synced, and where a write to a file, or an fsync of it, fails."""

    def __init__(self) -> None:
        self.synced: list[str] = []
        self.failing: tuple[str, int] | None = None

    def write(self, descriptor, buffers, offset):
        if self.failing == (self.path(descriptor), offset):
            raise OSError(errno.EIO, "failed")
        super().write(descriptor, buffers, offset)

    def sync(self, descriptor):
        self.synced.append(self.path(descriptor))
        if self.failing == (self.path(descriptor), FSYNC):
            raise OSError(errno.EIO, "failed")
        super().sync(descriptor)

    def sync_data(self, descriptor):
        self.synced.append(self.path(descriptor))
        super().sync_data(descriptor)

    def sync_filesystem(self, descriptor):
        self.synced.append("the store")
        if self.failing == ("the store", 0):
            raise OSError(errno.EIO, "failed")
        super().sync_filesystem(descriptor)

    def path(self, descriptor):
        return os.readlink(f"/proc/self/fd/{descriptor}")


@pytest.fixture
def driver(tmp_path):
    made = Driver(str(tmp_path), backing=Watching())
    yield made
    made.close()


def opened(driver, path="file", flags=os.O_RDWR) -> int:
    return driver.fs.open(driver.number(path), flags)


def killed(driver, **options) -> None:
    driver.drop()
    driver.open(**options)


# Files that are open without a name


@pytest.mark.parametrize("handles", [1, 2])
def test_a_file_without_a_name_keeps_its_content_through_checkpoints(driver, handles):
    driver.write_file("file", b"a" * 3 * SIZE)
    driver.reopen()
    opened_at = [opened(driver) for _ in range(handles)]
    driver.fs.write(opened_at[0], 10, b"new")
    driver.fs.unlink(*driver.split("file"))
    expected = bytearray(b"a" * 10 + b"new").ljust(3 * SIZE, b"a")
    for at in (SIZE, 2 * SIZE - 1):
        driver.checkpoint()
        assert bytes(driver.fs.read(opened_at[-1], 0, 4 * SIZE)) == expected
        driver.fs.write(opened_at[0], at, b"more")
        expected[at : at + 4] = b"more"
    assert bytes(driver.fs.read(opened_at[-1], 0, 4 * SIZE)) == expected


# What fdatasync promises


def made_anew(driver) -> int:
    _attributes, handle = driver.fs.create(ROOT, b"file", 0o644, os.O_RDWR, CALLER)
    driver.fs.write(handle, 0, b"a" * 3 * SIZE)
    return handle


def extended(driver) -> int:
    driver.write_file("file", b"a" * SIZE)
    driver.reopen()
    handle = opened(driver)
    driver.fs.write(handle, SIZE, b"a" * 2 * SIZE)
    return handle


def extended_and_closed(driver) -> int:
    handle = extended(driver)
    driver.fs.release(handle)
    return opened(driver)


@pytest.mark.parametrize("write", [made_anew, extended, extended_and_closed])
def test_records_in_place_are_synced_with_the_journal_that_names_them(driver, write):
    handle = write(driver)
    driver.fs.write(handle, 0, b"b")
    place = driver.backing_path("file")
    driver.backing.synced.clear()
    driver.fs.begin_fsync(handle, data_only=True)()
    assert place in driver.backing.synced
    assert any("/journal/" in one for one in driver.backing.synced)


# A checkpoint that fails in the middle and is made again


def shortened_and_filled(driver) -> None:
    driver.write_file("file", b"a" * 3 * SIZE)
    driver.write_file("other", b"a" * 3 * SIZE)
    driver.reopen()
    driver.fs.setattr(driver.number("file"), Changes(size=10))
    driver.write_file("file", b"b" * 3 * SIZE)
    driver.write_file("other", b"c")


@pytest.mark.parametrize("failing", ["another file", "the journal"])
def test_a_checkpoint_that_failed_is_made_up_for_and_loses_nothing(driver, failing):
    shortened_and_filled(driver)
    if failing == "another file":
        driver.backing.failing = (driver.backing_path("other"), 0)
    else:
        closing = driver.session.writing_journal.current
        driver.backing.failing = (driver.backing.path(closing.descriptor), 0)
    with pytest.raises(OSError, match="failed"):
        driver.checkpoint()
    driver.backing.failing = None
    for check in (driver.checkpoint, driver.reopen, lambda: None):
        assert driver.read_file("file") == b"b" * 3 * SIZE
        assert driver.read_file("other") == b"c".ljust(3 * SIZE, b"a")
        check()


def committed(driver, path="file") -> int:
    inode = driver.tree.inodes.get(driver.number(path))
    with driver.tree.sealed(inode, writable=False) as file:
        return driver.entries.committed_generation(file.file_id)


def test_a_sync_that_failed_is_never_followed_by_a_commit(driver):
    driver.write_file("file", b"a" * 2 * SIZE)
    driver.checkpoint()
    known = committed(driver)
    assert known > 0
    driver.write_file("file", b"b", offset=SIZE)
    driver.backing.failing = ("the store", 0)
    with pytest.raises(OSError, match="failed"):
        driver.checkpoint()
    driver.backing.failing = None
    with pytest.raises(OSError, match="failed"):
        driver.checkpoint()  # the system tells of lost pages once only
    assert committed(driver) == known
    with pytest.raises(OSError, match="failed before; unmount"):
        driver.write_file("file", b"c")
    driver.close()
    driver.open()
    assert driver.read_file("file") == b"a" * SIZE + b"b" + b"a" * (SIZE - 1)


# Another host's journal


def test_what_another_host_had_not_put_in_place_needs_an_administrator(driver):
    driver.write_file("file", b"a" * SIZE)
    driver.reopen()
    driver.write_file("file", b"b")
    driver.drop()
    (record,) = pathlib.Path(driver.state_dir).rglob("sessions.json")
    record.unlink()
    for read_only in (True, False):
        with pytest.raises(StoreBusy, match="-o recover"):
            driver.open(read_only=read_only)
        record.unlink(missing_ok=True)
    driver.open(recover=True)
    assert driver.read_file("file") == b"b".ljust(SIZE, b"a")


def test_an_unmount_after_a_checkpoint_that_failed_leaves_nothing_in_the_journal(driver):
    driver.write_file("file", b"a" * SIZE)
    driver.reopen()
    driver.write_file("file", b"b")
    closing = driver.session.writing_journal.current
    driver.backing.failing = (driver.backing.path(closing.descriptor), 0)
    with pytest.raises(OSError, match="failed"):
        driver.checkpoint()
    driver.backing.failing = None
    driver.write_file("file", b"c", offset=1)
    driver.reopen()
    assert driver.session.unended == frozenset()
    assert driver.read_file("file") == b"bc".ljust(SIZE, b"a")


# Names that changed after the last commit of the content database


def make_file(driver, path) -> None:
    driver.write_file(path, path.encode() * 10)


def make_folder(driver, path) -> None:
    driver.mkdir(path)
    driver.write_file(f"{path}/inner", path.encode() * 10)


def content(driver, path) -> bytes:
    number = driver.number(path)
    return driver.read_file(f"{path}/inner" if driver.is_folder(number) else path)


@pytest.mark.parametrize("make", [make_file, make_folder])
def test_what_got_its_former_name_back_before_a_stop_is_there(driver, make):
    make(driver, "a")
    driver.fs.rename(ROOT, b"a", ROOT, b"b")
    make(driver, "a")
    if make is make_folder:
        driver.fs.unlink(*driver.split("a/inner"))
    driver.reopen()
    driver.fs.rename(ROOT, b"b", ROOT, b"a")
    killed(driver)
    assert content(driver, "a") == b"a" * 10
    driver.reopen()
    assert content(driver, "a") == b"a" * 10


@pytest.mark.parametrize("make", [make_file, make_folder])
def test_what_changed_places_twice_before_a_stop_is_there(driver, make):
    for path in ("a", "b"):
        make(driver, path)
    driver.fs.rename(ROOT, b"a", ROOT, b"b", RENAME_EXCHANGE)
    driver.reopen()
    driver.fs.rename(ROOT, b"a", ROOT, b"b", RENAME_EXCHANGE)
    killed(driver)
    assert content(driver, "a") == b"a" * 10
    assert content(driver, "b") == b"b" * 10


# What a stop leaves in the journal


def test_a_read_only_mount_shows_what_is_longer_in_the_journal_than_in_place(driver):
    driver.write_file("file", b"a" * 2 * SIZE)
    driver.reopen()
    driver.fs.setattr(driver.number("file"), Changes(size=0))
    driver.write_file("file", b"b" * 10 * SIZE)
    killed(driver, read_only=True)
    assert driver.read_file("file") == b"b" * 10 * SIZE


def test_after_a_stop_a_damaged_page_of_a_map_is_no_empty_file(driver):
    driver.write_file("file", b"x")
    chunks = 440
    driver.fs.setattr(driver.number("file"), Changes(size=chunks * SIZE))
    for index in range(0, chunks, 2):
        driver.write_file("file", b"x" * SIZE, offset=index * SIZE)
    inode = driver.tree.inodes.get(driver.number("file"))
    with driver.tree.sealed(inode, writable=False) as file:
        (page,) = file.state.extent_pages
    place = pathlib.Path(driver.backing_path("file"))
    killed(driver)
    driver.drop()
    raw = bytearray(place.read_bytes())
    raw[HEADER_SIZE + page.chunk_index * STRIDE + 100] ^= 1
    place.write_bytes(raw)
    driver.open()
    with pytest.raises(Damaged):
        driver.read_file("file")


# What `ckfs status` says


def said(driver) -> durability.Durability:
    return durability.facts(
        driver.fs.checkpoints, driver.session, driver.entries, driver.fs.incidents
    )


def test_what_waits_is_told_until_a_checkpoint_has_ended(driver):
    driver.write_file("file", b"a" * 2 * SIZE)
    assert said(driver)["journal_bytes"] == 0
    assert said(driver)["checkpoint_seconds"] is None
    driver.write_file("file", b"b" * SIZE)
    assert STRIDE < said(driver)["journal_bytes"] < 2 * STRIDE
    steps = driver.fs.checkpoints.steps()
    next(steps)
    driver.write_file("file", b"c" * SIZE)
    assert said(driver)["journal_bytes"] > 2 * STRIDE
    steps.close()
    driver.checkpoint()
    assert said(driver)["journal_bytes"] == 0
    assert said(driver)["checkpoint_seconds"] == 0
    assert said(driver)["failed"] == ""


def test_a_failed_sync_is_told(driver):
    driver.write_file("file", b"a" * SIZE)
    driver.backing.failing = ("the store", 0)
    with pytest.raises(OSError, match="failed"):
        driver.checkpoint()
    assert "until the store is mounted again" in said(driver)["failed"]
    driver.write_file("new", b"what replaces nothing is taken")
    with pytest.raises(OSError, match="unmount"):
        driver.write_file("file", b"b")
    driver.backing.failing = None


def test_a_failed_fsync_is_told(driver):
    driver.write_file("file", b"a" * SIZE)
    wait = driver.fs.begin_fsync(opened(driver), data_only=False)
    driver.backing.failing = (driver.backing_path("file"), FSYNC)
    with pytest.raises(OSError, match="failed"):
        wait()
    assert "an fsync failed" in said(driver)["failed"]


def test_what_was_refused_and_trusted_is_counted_whoever_has_written_it_down(driver):
    for _attempt in range(2):
        driver.tree.report(None, Recovered("recovered"))
        driver.fs.errno_of(Damaged("damaged"))
    driver.fs.incidents.take()
    driver.fs.errno_of(Damaged("damaged otherwise"))
    assert (said(driver)["refused"], said(driver)["trusted"]) == (2, 1)


def test_a_partial_last_chunk_is_not_lost_to_a_stop_behind_it(driver):
    """Killed after a record was written in place behind it, before the journal named both."""
    driver.write_file("file", b"a" * SIZE)
    driver.reopen()
    handle = driver.fs.open(driver.number("file"), os.O_WRONLY)
    driver.fs.write(handle, SIZE, b"b" * (SIZE + 900))
    journal = driver.session.writing_journal

    def stop(*_change):
        raise KeyboardInterrupt

    journal.append = stop
    with pytest.raises(KeyboardInterrupt):
        driver.fs.write(handle, 2 * SIZE + 900, b"c" * 2 * SIZE)
    driver.drop()
    driver.open()
    assert driver.read_file("file") == b"a" * SIZE + b"b" * (SIZE + 900)
