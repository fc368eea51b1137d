"""Symlinks through renames and links, also those that stop in the middle (FORMAT.md section 9)."""

import os
from contextlib import nullcontext

import pytest
from driver import CALLER, Driver

from fsdriver.backing import RENAME_EXCHANGE, Backing
from fsdriver.errors import NameBindingMismatch
from fsdriver.namespace import SYMLINK_TEXT_MAX

TARGET = b"../some/where"


class Stopping(Backing):
    """A store on which the nth rename, and everything behind it, does not happen."""

    left = 1000

    def rename(self, folder, name, new_folder, new_name, flags=0):
        self.left -= 1
        if self.left < 0:
            raise OSError(5, "stopped")
        super().rename(folder, name, new_folder, new_name, flags)

    def unlink(self, folder, name):
        if self.left < 0:
            raise OSError(5, "stopped")
        super().unlink(folder, name)


@pytest.fixture
def driver(tmp_path):
    made = Driver(str(tmp_path), backing=Stopping())
    made.mkdir("folder")
    made.fs.symlink(*made.split("link"), TARGET, CALLER)
    yield made
    made.close()


def target(driver, path) -> bytes:
    number = driver.number(path)
    found = driver.fs.readlink(number)
    assert driver.fs.getattr(number).size == len(found)
    return found


def bound_to(driver, path) -> int:
    """How many names it is valid under; none stands for all."""
    place = driver.tree.place(driver.tree.inodes.get(driver.number(path)))
    return len(driver.tree.target(place)[1])


def links(driver, path) -> int:
    return driver.fs.getattr(driver.number(path)).nlink


def rename(driver, old, new, flags=0):
    driver.fs.rename(*driver.split(old), *driver.split(new), flags)


def link(driver, old, new):
    driver.fs.link(driver.number(old), *driver.split(new))


def leftovers(driver) -> list[str]:
    return [name for name in os.listdir(driver.store) if name.startswith(".ckfs-tmp-")]


@pytest.mark.parametrize("new", ["moved", "folder/link", "folder/" + "n" * 200, "ü" * 100])
def test_a_renamed_symlink_is_bound_to_its_new_name_alone(driver, new):
    number = driver.number("link")
    rename(driver, "link", new)
    assert driver.number(new) == number
    assert driver.fs.readlink(number) == TARGET
    for _ in range(2):
        assert target(driver, new) == TARGET
        assert bound_to(driver, new) == 1
        driver.reopen()
    with pytest.raises(FileNotFoundError):
        driver.number("link")
    assert leftovers(driver) == []


def test_a_rename_keeps_a_symlinks_times(driver):
    status = driver.fs.getattr(driver.number("link"))
    rename(driver, "link", "moved")
    driver.reopen()
    again = driver.fs.getattr(driver.number("moved"))
    assert (again.mtime_ns, again.uid, again.gid) == (status.mtime_ns, status.uid, status.gid)


def test_a_rename_over_another_symlink(driver):
    driver.fs.symlink(*driver.split("other"), b"elsewhere", CALLER)
    rename(driver, "link", "other")
    driver.reopen()
    assert target(driver, "other") == TARGET
    assert set(driver.names()) == {b"folder", b"other"}


def test_two_symlinks_and_a_symlink_and_a_file_change_places(driver):
    driver.fs.symlink(*driver.split("other"), b"elsewhere", CALLER)
    driver.write_file("file", b"content")
    rename(driver, "link", "other", RENAME_EXCHANGE)
    assert target(driver, "link") == b"elsewhere"
    rename(driver, "other", "file", RENAME_EXCHANGE)
    for _ in range(2):
        assert target(driver, "link") == b"elsewhere"
        assert target(driver, "file") == TARGET
        assert driver.read_file("other") == b"content"
        assert bound_to(driver, "link") == bound_to(driver, "file") == 1
        driver.reopen()


@pytest.mark.parametrize("new", ["moved", "folder/link"])
@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_rename_that_stops_anywhere_leaves_a_symlink_under_one_name(driver, new, renames):
    driver.backing.left = renames
    # Once it has its new name, it only was not bound to that one alone: no failure.
    with pytest.raises(OSError, match="stopped") if renames < 2 else nullcontext():
        rename(driver, "link", new)
    driver.backing.left = 1000
    driver.drop()
    driver.open()
    name, gone = (new, "link") if renames == 2 else ("link", new)
    assert target(driver, name) == TARGET
    with pytest.raises(FileNotFoundError):
        driver.number(gone)
    assert bound_to(driver, name) == (1 if renames == 0 else 2)
    # The next rename leaves nothing of it.
    rename(driver, name, "at last")
    driver.reopen()
    assert target(driver, "at last") == TARGET
    assert bound_to(driver, "at last") == 1


def test_a_second_hard_link_is_bound_to_both_names(driver):
    link(driver, "link", "folder/second")
    for _ in range(2):
        for name in ("link", "folder/second"):
            assert target(driver, name) == TARGET
            assert bound_to(driver, name) == links(driver, name) == 2
        assert driver.number("link") == driver.number("folder/second")
        driver.reopen()


def test_one_of_two_hard_links_that_is_renamed_becomes_its_own(driver):
    link(driver, "link", "second")
    rename(driver, "link", "moved")
    for _ in range(2):
        for name in ("moved", "second"):
            assert target(driver, name) == TARGET
            assert links(driver, name) == 1
        assert bound_to(driver, "moved") == 1
        driver.reopen()
    assert driver.number("moved") != driver.number("second")
    rename(driver, "second", "link")
    driver.reopen()
    assert target(driver, "link") == TARGET
    assert bound_to(driver, "link") == 1


def test_a_third_hard_link_is_bound_to_no_name(driver):
    link(driver, "link", "second")
    link(driver, "second", "third")
    for _ in range(2):
        for name in ("link", "second", "third"):
            assert target(driver, name) == TARGET
        assert bound_to(driver, "third") == 0
        driver.reopen()
    link(driver, "third", "fourth")
    rename(driver, "third", "folder/moved")
    driver.reopen()
    for name in ("fourth", "folder/moved"):
        assert target(driver, name) == TARGET
        assert bound_to(driver, name) == 0


def test_a_symlink_that_lost_a_link_gets_another_one_without_being_unbound(driver):
    link(driver, "link", "second")
    driver.fs.unlink(*driver.split("second"))
    assert bound_to(driver, "link") == 2
    link(driver, "link", "third")
    driver.reopen()
    for name in ("link", "third"):
        assert target(driver, name) == TARGET
        assert bound_to(driver, name) == 2


def test_a_symlink_under_another_name_can_be_neither_renamed_nor_linked(driver):
    driver.fs.symlink(*driver.split("other"), b"elsewhere", CALLER)
    text = os.readlink(driver.backing_path("link"))
    place = driver.backing_path("other")
    os.unlink(place)
    os.symlink(text, place)
    driver.reopen()
    for act in (rename, link):
        with pytest.raises(NameBindingMismatch, match="written under another name"):
            act(driver, "other", "third")
    driver.fs.unlink(*driver.split("other"))
    assert set(driver.names()) == {b"folder", b"link"}


def test_the_longest_target(driver):
    longest = b"t" * 3021
    try:
        os.symlink("t" * SYMLINK_TEXT_MAX, os.path.join(driver.store, ".ckfs-tmp-probe"))
    except OSError:
        pytest.skip("the filesystem of the temporary folder has no symlinks of 4,095 characters")
    driver.fs.symlink(*driver.split("long"), longest, CALLER)
    assert target(driver, "long") == longest
    with pytest.raises(OSError, match="ENAMETOOLONG"):
        driver.fs.symlink(*driver.split("longer"), longest + b"t", CALLER)
