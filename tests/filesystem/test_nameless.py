"""O_TMPFILE: files without a name, where the store's filesystem has such files and where not."""

import errno
import os
import sqlite3

import pytest
from driver import CALLER, Driver

from fsdriver.backing import Backing
from fsdriver.contentdb import FILE_NAME
from fsdriver.inodes import ROOT
from keyhierarchy.statedir import store_folder


class Named(Backing):
    """A store's filesystem in which every file has a name."""

    def create_nameless(self, folder, mode):  # noqa: ARG002
        raise OSError(errno.EOPNOTSUPP, "no such files")


@pytest.fixture(params=[Backing, Named])
def either(request, tmp_path):
    made = Driver(str(tmp_path), backing=request.param())
    yield made
    made.close()


@pytest.fixture
def named(tmp_path):
    made = Driver(str(tmp_path), backing=Named())
    yield made
    made.close()


def hidden(driver, path="/"):
    return [one for one in os.listdir(driver.backing_path(path)) if one.startswith(".ckfs-tmp-")]


def make(driver, content, parent=ROOT):
    attributes, handle = driver.fs.tmpfile(parent, 0o640, os.O_RDWR, CALLER)
    driver.fs.write(handle, 0, content)
    return attributes.number, handle


def test_it_lives_as_long_as_it_is_open(either):
    fs = either.fs
    number, handle = make(either, b"x" * 10_000)
    assert either.names() == {}
    assert bytes(fs.read(handle, 0, 20_000)) == b"x" * 10_000
    fs.begin_fsync(handle, data_only=False)()
    either.checkpoint()
    fs.write(handle, 5000, b"y" * 10_000)
    again = fs.open(number, os.O_RDONLY)  # by way of /proc/self/fd
    fs.flush(handle)
    fs.release(handle)
    assert bytes(fs.read(again, 0, 20_000)) == b"x" * 5000 + b"y" * 10_000
    fs.release(again)
    fs.forget(number, 1)
    assert hidden(either) == []
    assert fs.counts()["inodes"] == 1


def test_a_link_gives_it_its_first_name(either):
    fs = either.fs
    folder = either.mkdir("folder")
    number, handle = make(either, b"x" * 10_000)
    assert fs.link(number, folder, b"n" * 255).number == number
    assert fs.lookup(folder, b"n" * 255).number == number
    assert fs.getattr(number).nlink == 1
    fs.write(handle, 0, b"later")
    fs.flush(handle)
    fs.release(handle)
    fs.link(number, ROOT, b"second")
    assert hidden(either) == []
    either.reopen()
    expected = b"later" + b"x" * 9995
    assert either.read_file("folder/" + "n" * 255) == either.read_file("second") == expected
    either.fs.rename(ROOT, b"second", ROOT, b"third")
    either.fs.unlink(either.number("folder"), b"n" * 255)
    either.reopen()
    assert either.read_file("third") == expected


def test_what_is_linked_survives_a_kill(either):
    number, handle = make(either, b"x" * 10_000)
    either.fs.link(number, ROOT, b"file")
    either.fs.write(handle, 9000, b"y" * 10_000)
    either.drop()
    either.open()
    assert either.read_file("file") == b"x" * 9000 + b"y" * 10_000


def test_what_changes_before_the_link_is_made_goes_with_it(either):
    number, handle = make(either, b"x" * 100)
    wait = either.fs.begin_link(number, ROOT, b"file")
    assert wait is not None
    either.fs.write(handle, 5000, b"y")
    wait()
    either.fs.link(number, ROOT, b"file")
    either.drop()
    either.open()
    assert either.read_file("file") == b"x" * 100 + bytes(4900) + b"y"


def test_a_name_that_is_taken_or_gone(either):
    fs = either.fs
    either.write_file("taken", b"t")
    number, handle = make(either, b"x")
    with pytest.raises(OSError, match="EEXIST"):
        fs.link(number, ROOT, b"taken")
    fs.link(number, ROOT, b"file")
    fs.unlink(ROOT, b"file")
    assert bytes(fs.read(handle, 0, 9)) == b"x"
    with pytest.raises(OSError, match="ESTALE"):
        fs.link(number, ROOT, b"once more")
    fs.release(handle)


def test_its_folder_may_go(either):
    fs = either.fs
    folder = either.mkdir("folder")
    number, handle = make(either, b"x" * 5000, folder)
    fs.rmdir(ROOT, b"folder")
    assert bytes(fs.read(handle, 0, 9)) == b"x" * 9
    fs.write(handle, 0, b"y")
    with pytest.raises(FileNotFoundError):
        fs.link(number, folder, b"file")
    fs.release(handle)


def test_its_backing_inode_may_be_given_to_another(driver):
    fs = driver.fs
    for turn in range(20):
        number, handle = make(driver, b"nameless")
        fs.release(handle)  # the kernel forgets it later
        driver.write_file(f"file{turn}", b"%d" % turn)
        assert driver.number(f"file{turn}") != number
    assert [driver.read_file(f"file{turn}") for turn in range(20)] == [b"%d" % n for n in range(20)]


def test_nothing_stays_known_of_what_never_had_a_name(driver):
    _number, handle = make(driver, b"x")
    other, held = make(driver, b"y")
    driver.checkpoint()
    driver.fs.release(handle)
    driver.fs.write(held, 0, b"z")
    driver.fs.flush(held)
    driver.checkpoint()
    driver.fs.link(other, ROOT, b"file")
    driver.checkpoint()
    store_id = driver.entries.store_id
    with sqlite3.connect(os.path.join(store_folder(driver.state_dir, store_id), FILE_NAME)) as base:
        rows = base.execute("SELECT names, generation > 0 FROM objects WHERE names = 0").fetchall()
        assert rows == [(0, 1)] * len(rows)
        assert len(rows) <= 1  # the root folder
        (count,) = base.execute("SELECT count(*) FROM objects WHERE names = 1").fetchone()
        assert count == 1


def test_what_a_stop_leaves_is_swept_away(named):
    folder = named.mkdir("folder")
    make(named, b"x")
    make(named, b"x" * 10_000, folder)
    assert len(hidden(named)) == len(hidden(named, "folder")) == 1
    named.drop()
    named.open()
    assert hidden(named) == []
    named.names(named.number("folder"))
    assert hidden(named, "folder") == []


def test_a_read_only_mount_sweeps_nothing(named):
    make(named, b"x")
    named.drop()
    named.open(read_only=True)
    assert len(hidden(named)) == 1
    with pytest.raises(OSError, match="EROFS"):
        named.fs.tmpfile(ROOT, 0o600, os.O_RDWR, CALLER)


def test_an_unmount_leaves_none(named):
    make(named, b"x")
    named.close()
    assert not [one for one in os.listdir(named.store) if one.startswith(".ckfs-tmp-")]
