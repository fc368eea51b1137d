"""Copies within the driver, set-id bits, birth times, syncfs, and what stat says of the root."""

import errno
import os
import stat

import hypothesis.strategies as st
import pytest
from driver import CALLER, Driver
from hypothesis import HealthCheck, given, settings

from fsdriver import copying
from fsdriver.backing import Backing
from fsdriver.changes import Changes
from fsdriver.errors import ChunkInvalid
from fsdriver.inodes import ROOT
from fsdriver.namespace import Caller

SIZE = 4096
RENAME_WHITEOUT = 4


@pytest.fixture
def two(driver):
    content = os.urandom(5 * SIZE + 100)
    driver.write_file("from", content)
    source = driver.fs.open(driver.number("from"), os.O_RDONLY)
    _attributes, target = driver.fs.create(ROOT, b"to", 0o644, os.O_RDWR, CALLER)
    return content, source, target


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    offset=st.integers(0, 6 * SIZE),
    to=st.integers(0, 9 * SIZE),
    length=st.integers(0, 7 * SIZE),
    same=st.booleans(),
)
def test_a_copy_is_a_read_and_a_write(driver, offset, to, length, same):
    fs = driver.fs
    content = bytes(range(256)) * (5 * SIZE // 256) + b"end"
    _attributes, source = fs.create(ROOT, b"from", 0o644, os.O_RDWR, CALLER)
    _attributes, target = fs.create(ROOT, b"to", 0o644, os.O_RDWR, CALLER)
    fs.write(source, 0, content)
    if same:
        fs.write(target, 0, content)
    part = content[offset:][:length]
    before = content if same else b""
    overlaps = offset < to + len(part) and to < offset + len(part)
    try:
        if same and overlaps:
            with pytest.raises(OSError, match="EINVAL"):
                fs.copy_file_range(target, offset, target, to, length)
        else:
            copied = fs.copy_file_range(target if same else source, offset, target, to, length)
            assert copied == len(part)
            if part:
                before = before.ljust(to, b"\0")[:to] + part + before[to + len(part) :]
        assert bytes(fs.read(target, 0, 20 * SIZE)) == before
    finally:
        for name, handle in ((b"from", source), (b"to", target)):
            fs.unlink(ROOT, name)
            fs.release(handle)


def test_a_long_copy_stops_for_others(driver, monkeypatch, two):
    content, source, target = two
    monkeypatch.setattr(copying, "AT_MOST", 2 * SIZE)
    done = 0
    while copied := driver.fs.copy_file_range(source, done, target, done, 1 << 40):
        assert copied <= 2 * SIZE
        done += copied
    assert driver.read_file("to") == content


class Failing(Backing):
    """A store that fails once it has taken so many writes."""

    left = -1

    def write(self, *arguments):
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.EIO, "failed")
        super().write(*arguments)


def test_what_was_copied_before_an_error_counts(tmp_path, monkeypatch):
    backing = Failing()
    driver = Driver(str(tmp_path), backing=backing)
    driver.write_file("from", b"x" * 8 * SIZE)
    driver.write_file("to", b"y" * 8 * SIZE)
    source = driver.fs.open(driver.number("from"), os.O_RDONLY)
    target = driver.fs.open(driver.number("to"), os.O_RDWR)
    monkeypatch.setattr(copying, "_PIECE", 2 * SIZE)
    backing.left = 3
    assert driver.fs.copy_file_range(source, 0, target, 0, 8 * SIZE) == 4 * SIZE
    backing.left = 1
    with pytest.raises(OSError, match="failed"):
        driver.fs.copy_file_range(source, 0, target, 4 * SIZE, 4 * SIZE)
    assert driver.read_file("to") == b"x" * 4 * SIZE + b"y" * 4 * SIZE
    driver.close()


def test_who_may_not_write_cannot_copy_there(driver, two):
    _content, source, _target = two
    with pytest.raises(OSError, match="EBADF"):
        driver.fs.copy_file_range(source, 0, source, 10 * SIZE, 1)


# Set-id bits


@pytest.mark.parametrize(
    ("mode", "left"), [(0o6755, 0o755), (0o6745, 0o2745), (0o4700, 0o700), (0o1777, 0o1777)]
)
def test_set_id_bits_go_when_the_kernel_says_so(driver, mode, left):
    fs = driver.fs
    driver.write_file("f", b"x" * 100)
    number = driver.number("f")
    told = []
    fs.set_ids_dropped = told.append
    handle = fs.open(number, os.O_WRONLY)

    def mode_after(change):
        fs.setattr(number, Changes(mode=mode))
        change()
        return stat.S_IMODE(fs.getattr(number).mode)

    assert mode_after(lambda: fs.write(handle, 0, b"y")) == mode
    assert mode_after(lambda: fs.setattr(number, Changes(size=50))) == mode
    assert mode_after(lambda: fs.write(handle, 0, b"y", kill_priv=True)) == left
    assert mode_after(lambda: fs.write(handle, 0, b"y", kill_priv=True)) == left
    assert told == ([number] * 2 if mode != left else [])
    assert mode_after(lambda: fs.setattr(number, Changes(size=40, kill_priv=True))) == left
    truncating = os.O_WRONLY | os.O_TRUNC
    assert mode_after(lambda: fs.release(fs.open(number, truncating, kill_priv=True))) == left
    assert mode_after(lambda: fs.release(fs.open(number, os.O_WRONLY))) == mode
    assert mode_after(lambda: fs.setattr(number, Changes(uid=os.geteuid()))) & stat.S_ISUID == 0
    fs.release(handle)
    assert mode_after(lambda: fs.setattr(number, Changes(size=30, kill_priv=True))) == left


def test_a_new_mode_that_comes_with_it_is_kept(driver):
    driver.write_file("f", b"")
    number = driver.number("f")
    driver.fs.setattr(number, Changes(mode=0o4711, kill_priv=True))
    assert stat.S_IMODE(driver.fs.getattr(number).mode) == 0o4711


# The rest


def test_birth_times_are_those_of_the_store(driver):
    fs = driver.fs
    driver.write_file("f", b"x")
    driver.mkdir("d")
    fs.symlink(ROOT, b"s", b"target", CALLER)
    fs.mknod(ROOT, b"p", stat.S_IFIFO | 0o600, 0, CALLER)
    held = fs.open(driver.number("f"), os.O_RDONLY)
    for path in ("/", "f", "d", "s", "p"):
        number = driver.number(path)
        born = fs.birth_time_ns(number)
        folder = driver.backing.open_root(os.path.dirname(driver.backing_path(path) + "x"))
        text = "." if path == "/" else os.path.basename(driver.backing_path(path))
        assert born == driver.backing.birth_time_ns(folder, text), path
        os.close(folder)
        attributes = fs.getattr(number)
        if born is not None:
            assert born <= attributes.ctime_ns
            fs.setattr(number, Changes(atime_ns=5, mtime_ns=5))
            assert fs.birth_time_ns(number) == born
    fs.release(held)


def test_syncfs_seals_and_syncs(driver):
    _attributes, handle = driver.fs.create(ROOT, b"f", 0o644, os.O_RDWR, CALLER)
    driver.fs.write(handle, 0, b"x" * SIZE)
    driver.fs.write(handle, SIZE, b"y" * SIZE)
    content = driver.tree.inodes.find(os.stat(driver.backing_path("f"))).open
    assert content.file.state.dirty
    driver.fs.begin_syncfs()()
    assert not content.file.state.dirty
    assert driver.tree.unsynced_folders(driver.tree.inodes.get(driver.number("f"))) == []
    driver.reopen()
    driver.close()
    driver.open(read_only=True)
    driver.fs.begin_syncfs()()


def test_the_root_does_not_count_the_control_folder(driver):
    assert driver.fs.getattr(ROOT).nlink == 2
    driver.mkdir("d")
    assert driver.fs.getattr(ROOT).nlink == 3


def test_names_are_as_long_as_the_mount_takes_them(driver):
    assert driver.fs.statfs().f_namemax == 255
    assert driver.fs.statfs().f_files >= driver.fs.statfs().f_ffree > 0


def test_a_whiteout_is_refused(driver):
    driver.write_file("f", b"x")
    with pytest.raises(OSError, match="EINVAL"):
        driver.fs.rename(ROOT, b"f", ROOT, b"g", RENAME_WHITEOUT)
    assert driver.names().keys() == {b"f"}


def test_truncating_needs_no_handle_for_writing(driver):
    """O_RDONLY | O_TRUNC, which Linux does."""
    driver.write_file("f", b"x" * 100)
    handle = driver.fs.open(driver.number("f"), os.O_RDONLY | os.O_TRUNC)
    assert driver.fs.getattr(driver.number("f")).size == 0
    with pytest.raises(OSError, match="EBADF"):
        driver.fs.write(handle, 0, b"x")


def test_a_nameless_file_belongs_to_its_caller(driver):
    if os.geteuid():
        pytest.skip("only root gives files away")
    attributes, _handle = driver.fs.tmpfile(ROOT, 0o4755, os.O_RDWR, Caller(65534, 65534))
    status = driver.fs.getattr(attributes.number)
    assert (status.uid, status.gid, stat.S_IMODE(status.mode)) == (65534, 65534, 0o4755)


def test_what_is_read_ahead_is_what_is_read_and_damage_is_told_to_who_reads(driver):
    for name in (b"whole", b"damaged"):
        _made, handle = driver.fs.create(ROOT, name, 0o644, os.O_WRONLY, CALLER)
        driver.fs.write(handle, 0, name * 10)
        driver.fs.release(handle)
    driver.close()
    driver.open()
    known = driver.tree.folder(driver.tree.inodes.root).backing_name(b"damaged")
    with open(os.path.join(driver.store, known.text), "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes((last[0] ^ 1,)))
    for name in (b"whole", b"damaged"):
        handle = driver.fs.open(driver.fs.lookup(ROOT, name).number, os.O_RDONLY)
        driver.fs.read_ahead(handle)
        content = driver.tree.inodes.get(driver.fs.number_of(handle)).open
        if name == b"whole":
            assert content.vetted
            assert bytes(driver.fs.read(handle, 0, 4096)) == name * 10
        else:
            with pytest.raises(ChunkInvalid):
                driver.fs.read(handle, 0, 4096)
        driver.fs.release(handle)
        driver.fs.read_ahead(handle)  # which nobody has any more


AHEAD = b"as it was made " * 20


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (lambda fs, _handle: fs.idle(), AHEAD),
        (lambda fs, handle: fs.write(handle, 3, b"NEW"), AHEAD[:3] + b"NEW" + AHEAD[6:]),
        (lambda fs, handle: fs.write(handle, len(AHEAD), b"more"), AHEAD + b"more"),
        (lambda fs, handle: fs.setattr(fs.number_of(handle), Changes(size=7)), AHEAD[:7]),
        (lambda fs, handle: fs.fallocate(handle, 3, 0, 5), bytes(5) + AHEAD[5:]),
        (lambda fs, handle: fs.read(handle, 2, 4), AHEAD),
        (lambda fs, handle: fs.read_ahead(handle), AHEAD),
        (lambda fs, handle: fs.begin_fsync(handle, data_only=False)(), AHEAD),
    ],
)
def test_what_is_read_ahead_is_as_new_as_what_is_read(driver, between, expected):
    numbers = []
    for name in (b"one", b"other"):
        made, handle = driver.fs.create(ROOT, name, 0o644, os.O_WRONLY, CALLER)
        driver.fs.write(handle, 0, AHEAD if name == b"one" else b"other")
        driver.fs.release(handle)
        numbers.append(made.number)
    one, other = (driver.fs.open(number, os.O_RDWR) for number in numbers)
    driver.fs.read_ahead(one)
    between(driver.fs, one)
    assert bytes(driver.fs.read(one, 0, 4096)) == expected
    driver.fs.read_ahead(one)
    assert bytes(driver.fs.read(other, 0, 4096)) == b"other"
    driver.fs.read_ahead(one)
    driver.fs.read_ahead(other)
    assert bytes(driver.fs.read(one, 0, 4096)) == expected
    assert bytes(driver.fs.read(other, 1, 3)) == b"the"
    driver.fs.release(one)
    driver.fs.release(other)


def test_nothing_is_kept_of_a_file_that_nobody_has_open(driver):
    made, handle = driver.fs.create(ROOT, b"one", 0o644, os.O_WRONLY, CALLER)
    driver.fs.write(handle, 0, AHEAD)
    driver.fs.release(handle)
    handle = driver.fs.open(made.number, os.O_RDONLY)
    driver.fs.read_ahead(handle)
    assert driver.tree.buffers.ahead is not None
    driver.fs.release(handle)
    assert driver.tree.buffers.ahead is None
