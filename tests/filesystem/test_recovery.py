"""What a driver finds that another one left behind, mount after mount (FORMAT.md 12.3 to 12.5)."""

import errno
import os
import pathlib

import pytest
from driver import CALLER, Driver

from fsdriver.backing import Backing
from fsdriver.changes import Changes
from fsdriver.errors import HeaderInvalid, NameBindingMismatch, RolledBack, SizeMismatch
from fsdriver.inodes import ROOT
from fsdriver.sessions import Unknown

SIZE = 4096


class Failing(Backing):
    """A store whose writes fail while it is told so."""

    failing = False

    def write(self, descriptor, buffers, offset):
        if self.failing:
            raise OSError(errno.EIO, "failed")
        super().write(descriptor, buffers, offset)


@pytest.fixture
def driver(tmp_path):
    made = Driver(str(tmp_path), backing=Failing())
    yield made
    made.close()


def watch(driver) -> list[str]:
    reports: list[str] = []
    driver.tree.report = lambda _inode, error: reports.append(str(error))
    return reports


def kill(driver, **options) -> list[str]:
    """SIGKILL, and the next mount on the same host; returns what that reports."""
    driver.drop()
    driver.open(**options)
    return watch(driver)


def open_for_writing(driver, path="file") -> int:
    return driver.fs.open(driver.number(path), os.O_RDWR)


def record_of_sessions(driver) -> pathlib.Path:
    (record,) = pathlib.Path(driver.state_dir).rglob("sessions.json")
    return record


def write_behind(driver, content: bytes, path="file") -> None:
    """Whole new chunks go to their places, and the header that names them waits for a seal."""
    size = driver.fs.getattr(driver.number(path)).size
    assert size % SIZE == 0
    driver.fs.write(open_for_writing(driver, path), size, content)


def test_a_killed_drivers_file_is_recovered_once(driver):
    driver.write_file("file", b"a" * 3 * SIZE)
    write_behind(driver, b"b" * 3 * SIZE)
    reports = kill(driver)
    for _ in range(2):
        assert driver.read_file("file") == b"a" * 3 * SIZE + b"b" * 3 * SIZE
    assert len(reports) == 1
    assert "24576 bytes kept" in reports[0]
    assert kill(driver) == []
    assert driver.read_file("file") == b"a" * 3 * SIZE + b"b" * 3 * SIZE


def test_what_was_replaced_before_a_kill_is_there_and_nothing_to_speak_of(driver):
    driver.write_file("file", b"a" * 3 * SIZE)
    driver.fs.write(open_for_writing(driver), SIZE, b"b" * 3 * SIZE)
    reports = kill(driver)
    for _ in range(2):
        assert driver.read_file("file") == b"a" * SIZE + b"b" * 3 * SIZE
        assert reports == []
        reports = kill(driver)


def test_what_was_left_behind_waits_for_years(driver):
    """A session stays among the unended: nobody knows which files it had open."""
    driver.write_file("file", b"a" * SIZE)
    write_behind(driver, b"b")
    kill(driver)
    for _ in range(3):
        driver.reopen()
    reports = watch(driver)
    assert driver.read_file("file") == b"a" * SIZE + b"b"
    assert len(reports) == 1


@pytest.mark.parametrize(
    ("offset", "expected"), [(1, b"ab".ljust(SIZE, b"a")), (SIZE, b"a" * SIZE + b"b")]
)
def test_a_read_only_mount_shows_it_and_leaves_it(driver, offset, expected):
    driver.write_file("file", b"a" * SIZE)
    driver.fs.write(open_for_writing(driver), offset, b"b")
    place = driver.backing_path("file")
    before = pathlib.Path(place).read_bytes()
    record = record_of_sessions(driver)
    said = record.read_bytes()
    kill(driver, read_only=True)
    driver.tree.read_only = True
    assert driver.read_file("file") == expected
    assert pathlib.Path(place).read_bytes() == before
    assert record.read_bytes() == said
    kill(driver)
    assert driver.read_file("file") == expected


def test_another_hosts_file_needs_an_administrator_once(driver):
    driver.write_file("file", b"a" * SIZE)
    write_behind(driver, b"b")
    driver.drop()
    record_of_sessions(driver).unlink()
    driver.open()
    with pytest.raises(HeaderInvalid, match="-o recover"):
        driver.read_file("file")
    driver.close()
    driver.open(recover=True)
    reports = watch(driver)
    assert driver.read_file("file") == b"a" * SIZE + b"b"
    assert len(reports) == 1
    driver.reopen()
    assert driver.read_file("file") == b"a" * SIZE + b"b"


def test_an_administrator_does_not_vouch_for_the_running_session(driver):
    driver.close()
    driver.open(recover=True)
    driver.write_file("file", b"a" * SIZE)
    handle = open_for_writing(driver)
    driver.fs.write(handle, SIZE, b"b")
    place = pathlib.Path(driver.backing_path("file"))
    seen = place.read_bytes()
    driver.fs.release(handle)
    place.write_bytes(seen)
    with pytest.raises(RolledBack):
        driver.read_file("file")
    driver.session.generations = Unknown()  # as on a host that remembers nothing of it
    with pytest.raises(HeaderInvalid, match="does not know to have stopped"):
        driver.read_file("file")


def tear(driver, length: int) -> None:
    """A power cut in the one call that writes an empty file."""
    driver.write_file("file", b"a" * 3 * SIZE)
    os.truncate(driver.backing_path("file"), length)


@pytest.mark.parametrize(
    ("length", "kept"),
    [
        (512, 0),
        (513, 0),
        (512 + 40, 0),
        (512 + 41, 0),
        (512 + SIZE + 40, SIZE),
        (512 + SIZE + 40 + 7, SIZE),
        (512 + 2 * (SIZE + 40), 2 * SIZE),
    ],
)
def test_a_new_file_that_a_power_cut_tore_is_recovered(driver, length, kept):
    tear(driver, length)
    reports = kill(driver)
    handle = open_for_writing(driver)
    assert driver.fs.getattr(driver.number("file")).size == kept
    whole = kept // SIZE * SIZE
    assert bytes(driver.fs.read(handle, 0, whole)) == b"a" * whole
    driver.fs.setattr(driver.number("file"), Changes(size=whole))
    driver.fs.write(handle, whole, b"more")
    driver.fs.release(handle)
    assert len(reports) == 1
    driver.reopen()
    assert driver.read_file("file") == b"a" * whole + b"more"


def test_a_new_file_that_somebody_tore_is_refused(driver):
    tear(driver, 512 + SIZE + 40)
    for _ in range(2):
        with pytest.raises(SizeMismatch):
            driver.read_file("file")
        driver.reopen()


def test_a_seal_that_failed_at_the_last_close_is_made_up_for(driver):
    driver.write_file("file", b"a" * SIZE)
    handle = open_for_writing(driver)
    driver.fs.write(handle, SIZE, b"b")
    driver.backing.failing = True
    with pytest.raises(OSError, match="failed"):
        driver.fs.release(handle)
    driver.backing.failing = False
    reports = watch(driver)
    assert driver.read_file("file") == b"a" * SIZE + b"b"
    assert len(reports) == 1


@pytest.mark.parametrize("offset", [1, SIZE])
def test_a_seal_that_failed_at_the_unmount_is_made_up_for_by_the_next_mount(driver, offset):
    driver.write_file("file", b"a" * SIZE)
    driver.fs.write(open_for_writing(driver), offset, b"b")
    driver.backing.failing = True
    driver.close()
    driver.backing.failing = False
    driver.open()
    expected = bytearray(b"a" * SIZE)
    expected[offset : offset + 1] = b"b"
    assert driver.read_file("file") == expected


def test_holes_stay_holes_when_a_file_is_cut_and_extended_again(driver):
    driver.write_file("file", b"a" * 5 * SIZE)
    open_for_writing(driver)
    for size in (SIZE, 10 * SIZE):
        driver.fs.setattr(driver.number("file"), Changes(size=size))
    kill(driver)
    assert driver.read_file("file") == b"a" * SIZE + bytes(9 * SIZE)


@pytest.mark.parametrize("size", [1, SIZE, SIZE + 10, 3 * SIZE])
def test_a_file_that_is_one_hole_stays_as_long_as_it_is(driver, size):
    driver.write_file("file", b"")
    driver.fs.setattr(driver.number("file"), Changes(size=size))
    for _ in range(2):
        kill(driver)
        assert driver.read_file("file") == bytes(size)


@pytest.mark.parametrize("size", [1, SIZE + 10])
def test_what_is_written_behind_a_hole_at_the_end_is_there(driver, size):
    driver.write_file("file", b"")
    driver.fs.setattr(driver.number("file"), Changes(size=size))
    driver.reopen()
    driver.fs.write(open_for_writing(driver), 3 * SIZE + 5, b"b" * 2 * SIZE)
    kill(driver)
    assert driver.read_file("file") == bytes(3 * SIZE + 5) + b"b" * 2 * SIZE


def rename(driver):
    driver.fs.rename(*driver.split("file"), *driver.split("renamed"))
    return "renamed"


def link(driver):
    driver.fs.link(driver.number("file"), *driver.split("linked"))
    return "linked"


def unlink(driver):
    driver.fs.link(driver.number("file"), *driver.split("linked"))
    driver.fs.unlink(*driver.split("file"))
    return "linked"


@pytest.mark.parametrize("change", [rename, link, unlink])
def test_holes_stay_holes_when_a_file_that_is_being_written_gets_a_name(driver, change):
    """A header with the new size and the old extents would name the hole as chunks."""
    driver.write_file("file", b"a" * 10)
    handle = open_for_writing(driver)
    driver.fs.write(handle, 10 * SIZE, b"b")
    name = change(driver)
    kill(driver)
    assert driver.read_file(name) == (b"a" * 10).ljust(10 * SIZE, b"\0") + b"b"


def test_a_file_that_is_being_written_gets_a_name_and_goes_on(driver):
    driver.write_file("file", b"a" * 10)
    handle = open_for_writing(driver)
    driver.fs.write(handle, 10 * SIZE, b"b")
    rename(driver)
    driver.fs.write(handle, 0, b"c")
    assert bytes(driver.fs.read(handle, 0, 2)) == b"ca"
    kill(driver)
    assert driver.read_file("renamed") == b"c" + (b"a" * 9).ljust(10 * SIZE - 1, b"\0") + b"b"


def bindings(driver, path):
    with driver.tree.sealed(driver.tree.inodes.get(driver.number(path)), writable=False) as file:
        return file.state.bindings, file.state.unbound


def reopen_read_only(driver) -> None:
    """So that looking at a file changes nothing in it."""
    driver.close()
    driver.open(read_only=True)
    driver.tree.read_only = True


def test_an_unbound_file_with_one_link_left_is_bound_again(driver):
    driver.write_file("file", b"linked")
    driver.write_file("other", b"")
    for count in range(4):
        driver.fs.link(driver.number("file"), *driver.split(f"link {count}"))
    for count in range(4):
        driver.fs.unlink(*driver.split(f"link {count}"))
    reopen_read_only(driver)
    assert bindings(driver, "file") == ((), True)
    assert driver.read_file("file") == b"linked"
    driver.reopen()
    assert driver.read_file("file") == b"linked"
    reopen_read_only(driver)
    known, unbound = bindings(driver, "file")
    assert len(known) == 1
    assert not unbound
    driver.reopen()
    os.replace(driver.backing_path("file"), driver.backing_path("other"))
    driver.reopen()
    with pytest.raises(NameBindingMismatch):
        driver.read_file("other")


def test_an_unbound_file_with_several_links_stays_unbound(driver):
    driver.write_file("file", b"linked")
    for count in range(4):
        driver.fs.link(driver.number("file"), *driver.split(f"link {count}"))
    driver.reopen()
    for name in ("file", "link 3"):
        assert driver.read_file(name) == b"linked"
        assert bindings(driver, name) == ((), True)


def test_an_unbound_file_that_was_left_behind_is_recovered_before_it_is_bound(driver):
    driver.write_file("file", b"a" * SIZE)
    names = [f"link {count}" for count in range(4)]
    for name in names:
        driver.fs.link(driver.number("file"), *driver.split(name))
    handle = open_for_writing(driver)
    for name in names:
        driver.fs.unlink(*driver.split(name))
    driver.fs.write(handle, SIZE, b"b")
    reports = kill(driver)
    assert driver.read_file("file") == b"a" * SIZE + b"b"
    assert len(reports) == 1
    assert len(bindings(driver, "file")[0]) == 1


def test_whoever_may_write_but_not_set_times_can_write(driver, monkeypatch):
    """Times of a file belong to its owner; to write to it takes only its mode."""

    def refuse(_descriptor, _atime_ns, _mtime_ns):
        raise PermissionError(errno.EPERM, "not the owner")

    monkeypatch.setattr(driver.backing, "change_open_times", refuse)
    driver.write_file("file", b"a" * SIZE)
    driver.write_file("file", b"b", offset=1)
    driver.fs.symlink(*driver.split("link"), b"file", CALLER)
    driver.reopen()
    assert driver.read_file("file") == b"ab".ljust(SIZE, b"a")


def two_names_over_one(driver) -> None:
    """`a` and `b` are one file, and `b` was another's name until a moment before the stop."""
    driver.write_file("a", b"both")
    driver.write_file("b", b"replaced")
    driver.fs.link(driver.number("a"), ROOT, b"c")
    driver.checkpoint()
    driver.fs.rename(ROOT, b"c", ROOT, b"b", 0)


@pytest.mark.parametrize("held", [True, False])
def test_a_file_is_met_under_each_of_its_names_after_a_stop(driver, held):
    two_names_over_one(driver)
    reports = kill(driver)
    handle = driver.fs.open(driver.number("a"), os.O_RDONLY)
    if not held:  # recovered, and known for sure, before its other name is met
        driver.fs.release(handle)
        driver.checkpoint()
    assert driver.read_file("b") == b"both"
    assert any("another file of several names" in one for one in reports)
    if held:
        driver.fs.release(handle)
    driver.reopen()
    assert driver.read_file("b") == b"both"


def test_a_link_that_is_put_back_without_a_stop_is_refused(driver):
    two_names_over_one(driver)
    driver.checkpoint()
    driver.fs.unlink(ROOT, b"b")
    driver.write_file("b", b"newer")
    driver.reopen()
    os.unlink(driver.backing_path("b"))
    os.link(driver.backing_path("a"), driver.backing_path("b"))
    assert driver.read_file("a") == b"both"
    with pytest.raises(RolledBack):
        driver.read_file("b")
