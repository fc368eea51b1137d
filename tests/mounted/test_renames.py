"""rename(2) and renameat2(2): what replaces what, in which order, with what open."""

from __future__ import annotations

import errno
import itertools
import os

import pytest

from tests.mounted.driving import RENAME_EXCHANGE, RENAME_NOREPLACE, fails, rename

pytestmark = pytest.mark.mounted

KINDS = ("file", "folder", "symlink", "fifo")


def make(kind, place, mark):
    if kind == "file":
        place.write_bytes(mark.encode() * 1000)
    elif kind == "folder":
        place.mkdir()
        (place / mark).write_bytes(b"inner")
    elif kind == "symlink":
        place.symlink_to(mark)
    else:
        os.mkfifo(place)


def check(kind, place, mark):
    if kind == "file":
        assert place.read_bytes() == mark.encode() * 1000
    elif kind == "folder":
        assert [one.read_bytes() for one in place.iterdir()] == [b"inner"]
        assert os.listdir(place) == [mark]
    elif kind == "symlink":
        assert os.readlink(place) == mark
    else:
        assert place.is_fifo()


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_name(folder, kind, across):
    (folder / "other").mkdir()
    target = folder / "other" / "new" if across else folder / "new"
    make(kind, folder / "old", "mark")
    number = (folder / "old").lstat().st_ino
    os.rename(folder / "old", target)
    check(kind, target, "mark")
    assert not (folder / "old").exists()
    if kind != "symlink":
        # A symlink's backing inode is a new one, but the kernel knows it by its old number.
        assert target.lstat().st_ino == number


@pytest.mark.parametrize(("first", "second"), [*itertools.product(KINDS, KINDS)])
def test_over_something_and_in_exchange(driven_once, first, second):
    folder = driven_once / f"{first} {second}"
    folder.mkdir()
    old, new = folder / "old", folder / "new"
    make(first, old, "one")
    make(second, new, "two")
    with fails(errno.EEXIST):
        rename(old, new, RENAME_NOREPLACE)
    rename(old, new, RENAME_EXCHANGE)
    check(second, old, "two")
    check(first, new, "one")
    rename(old, new, RENAME_EXCHANGE)
    if "folder" in (first, second) and first != second:
        with fails(errno.EISDIR if second == "folder" else errno.ENOTDIR):
            os.rename(old, new)
    elif first == "folder":
        with fails(errno.ENOTEMPTY):
            os.rename(old, new)
        (new / "two").unlink()
        os.rename(old, new)
        check(first, new, "one")
        return
    else:
        os.rename(old, new)
        check(first, new, "one")
        assert os.listdir(folder) == ["new"]
        return
    check(first, old, "one")
    check(second, new, "two")


@pytest.fixture(scope="module")
def driven_once(shared):
    """After all of them: everything is where it was left when it is mounted anew."""
    place = shared.mountpoint / "in exchange"
    place.mkdir()
    yield place
    shared.remount()
    for folder in place.iterdir():
        first = folder.name.split()[0]
        check(first, folder / ("old" if len(os.listdir(folder)) == 2 else "new"), "one")
    assert not shared.refusals()


def test_names_of_a_rename_survive_a_remount(driven):
    place = driven.mountpoint
    for kind in KINDS:
        (place / f"into {kind}").mkdir()
        make(kind, place / kind, "mark")
        os.rename(place / kind, place / f"into {kind}" / "moved")
    make("folder", place / "full", "mark")
    (place / "empty").mkdir()
    os.rename(place / "full", place / "empty")
    driven.remount()
    for kind in KINDS:
        check(kind, place / f"into {kind}" / "moved", "mark")
        os.rename(place / f"into {kind}" / "moved", place / kind)
    check("folder", place / "empty", "mark")
    driven.remount()
    for kind in KINDS:
        check(kind, place / kind, "mark")


def test_exchange_survives_a_remount(driven):
    place = driven.mountpoint
    (place / "other").mkdir()
    pairs = list(itertools.combinations_with_replacement(KINDS, 2))
    for number, (first, second) in enumerate(pairs):
        make(first, place / f"{number}", "one")
        make(second, place / "other" / f"{number}", "two")
        rename(place / f"{number}", place / "other" / f"{number}", RENAME_EXCHANGE)
    driven.remount()
    for number, (first, second) in enumerate(pairs):
        check(second, place / f"{number}", "two")
        check(first, place / "other" / f"{number}", "one")


def test_a_folder_does_not_go_into_itself(folder):
    (folder / "a" / "b").mkdir(parents=True)
    with fails(errno.EINVAL):
        os.rename(folder / "a", folder / "a" / "c")
    with fails(errno.EINVAL):
        os.rename(folder / "a", folder / "a" / "b" / "c")
    with fails(errno.EINVAL):
        rename(folder / "a", folder / "a" / "b", RENAME_EXCHANGE)
    with fails(errno.ENOTEMPTY):
        os.rename(folder / "a" / "b", folder / "a")
    assert (folder / "a" / "b").is_dir()


def test_refusals(folder):
    (folder / "file").write_bytes(b"x")
    with fails(errno.ENOENT):
        os.rename(folder / "nothing", folder / "new")
    with fails(errno.ENOENT):
        rename(folder / "file", folder / "nothing", RENAME_EXCHANGE)
    with fails(errno.ENOENT):
        os.rename(folder / "file", folder / "nowhere" / "new")
    with fails(errno.ENOTDIR):
        os.rename(folder / "file", folder / "file" / "new")
    with fails(errno.EINVAL):
        rename(folder / "file", folder / "new", RENAME_EXCHANGE | RENAME_NOREPLACE)
    with fails(errno.ENAMETOOLONG):
        os.rename(folder / "file", folder / ("x" * 256))
    rename(folder / "file", folder / "new", RENAME_NOREPLACE)
    os.rename(folder / "new", folder / "new")
    assert os.listdir(folder) == ["new"]


def test_two_names_of_one_file_stay_two(folder):
    (folder / "a").write_bytes(b"x")
    os.link(folder / "a", folder / "b")
    os.rename(folder / "a", folder / "b")
    assert sorted(os.listdir(folder)) == ["a", "b"]
    rename(folder / "a", folder / "b", RENAME_EXCHANGE)
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes() == b"x"


def test_what_is_open_is_not_disturbed(driven):
    place = driven.mountpoint
    (place / "a" / "b").mkdir(parents=True)
    (place / "replaced").write_bytes(b"replaced")
    moved = os.open(place / "a" / "b" / "file", os.O_CREAT | os.O_RDWR)
    replaced = os.open(place / "replaced", os.O_RDWR)
    os.write(moved, b"before ")
    os.rename(place / "a", place / "new")
    os.write(moved, b"after ")
    assert (place / "new" / "b" / "file").read_bytes() == b"before after "
    os.rename(place / "new" / "b" / "file", place / "replaced")
    os.write(moved, b"the end" * 20_000)
    os.pwrite(replaced, b"REPLACED", 0)
    assert os.pread(replaced, 100, 0) == b"REPLACED"
    assert os.fstat(replaced).st_nlink == 0
    os.close(moved)
    os.close(replaced)
    (place / "new" / "b" / "another").write_bytes(b"below a renamed folder")
    driven.remount()
    assert (place / "replaced").read_bytes() == b"before after " + b"the end" * 20_000
    assert (place / "new" / "b" / "another").read_bytes() == b"below a renamed folder"


def test_replace_by_rename_as_editors_do(driven):
    place = driven.mountpoint / "file"
    for turn in range(50):
        temporary = driven.mountpoint / f".file.{turn}"
        temporary.write_bytes(b"%d" % turn * 100)
        os.rename(temporary, place)
        assert place.read_bytes() == b"%d" % turn * 100
    driven.remount()
    assert os.listdir(driven.mountpoint) == ["file"]
    assert place.read_bytes() == b"49" * 100


def test_times_of_what_is_renamed_stay(folder):
    for kind in KINDS:
        make(kind, folder / kind, "mark")
        os.utime(folder / kind, ns=(10**18 + 1, 10**18 + 2), follow_symlinks=False)
        os.rename(folder / kind, folder / f"new {kind}")
        assert (folder / f"new {kind}").lstat().st_mtime_ns == 10**18 + 2, kind
