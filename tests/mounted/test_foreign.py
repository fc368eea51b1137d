"""What does not belong where it lies in the store: swapped, moved, planted, or foreign."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat

import pytest

from tests.mounted.driving import fails

pytestmark = pytest.mark.mounted

CONTENT = random.Random(5).randbytes(13_000)
NEIGHBOUR = b"not touched" * 100


@pytest.mark.parametrize("kind", ["file", "folder", "symlink"])
def test_two_swapped_in_the_store(driven, kind):
    place = driven.mountpoint
    for name in ("one", "two"):
        if kind == "file":
            (place / name).write_bytes(name.encode())
        elif kind == "folder":
            (place / name).mkdir()
            (place / name / "inner").write_bytes(name.encode())
        else:
            (place / name).symlink_to(name)
    driven.umount()
    one, two = (one for one in driven.store.iterdir() if not one.name.startswith(".ckfs"))
    os.rename(one, driven.store / "kept")
    os.rename(two, one)
    os.rename(driven.store / "kept", two)
    driven.mount()
    for name in ("one", "two"):
        assert name in os.listdir(place)
        with fails(errno.EIO):
            if kind == "file":
                (place / name).read_bytes()
            elif kind == "folder":
                os.listdir(place / name)
            else:
                os.readlink(place / name)
    assert sorted(line["path"] for line in driven.refusals()) == ["/one", "/two"]


def test_a_file_moved_to_another_folder(driven):
    place = driven.mountpoint
    (place / "folder").mkdir()
    (place / "file").write_bytes(b"content")
    shutil.move(driven.backing_of(place / "file"), driven.backing_of(place / "folder"))
    driven.remount()
    (shown,) = os.listdir(place / "folder")
    assert shown.endswith(".ckfs-foreign")
    with fails(errno.EIO):
        (place / "folder" / shown).read_bytes()
    assert {line["event"] for line in driven.refusals()} == {"refused"}
    # The host knows that it was there: nobody takes it for removed.
    assert stat.S_IMODE((place / "file").stat().st_mode) == 0
    with fails(errno.EIO):
        (place / "file").read_bytes()
    assert [line["kind"] for line in driven.refusals()] == ["EntryMissing"]


def look_into(path, mode):
    if stat.S_ISDIR(mode):
        os.listdir(path)
    elif stat.S_ISLNK(mode):
        os.readlink(path)
    else:
        path.read_bytes()


@pytest.mark.parametrize("mode", ["encrypted", "plaintext"])
def test_foreign_entries_are_shown_and_never_followed(fresh, mode):
    driven = fresh(*(["--plaintext-names"] if mode == "plaintext" else []))
    place = driven.mount()
    (place / "own").write_bytes(NEIGHBOUR)
    driven.umount()
    secret = driven.folder / "secret"
    secret.write_bytes(b"of the host, not of the store")
    outside = driven.folder / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"kept")
    store = driven.store
    (store / "foreign-file").write_bytes(b"plain")
    (store / "foreign-folder").mkdir()
    (store / "foreign-folder" / "inner").write_bytes(b"plain")
    (store / "foreign-link").symlink_to(secret)
    (store / "foreign-link-to-folder").symlink_to(outside)
    os.mkfifo(store / "foreign-fifo")
    (store / os.fsdecode(b"foreign-\xff\xfe")).write_bytes(b"x")
    (store / ("foreign-" + "x" * 247)).write_bytes(b"x")
    (store / "foreign-\n").write_bytes(b"x")
    driven.mount()
    names = os.listdir(place)
    assert "own" in names
    assert len(names) == 9
    for name in names:
        if name == "own":
            continue
        assert name.startswith("foreign-")
        status = (place / name).lstat()
        if not stat.S_ISFIFO(status.st_mode):
            with fails(errno.EIO):
                look_into(place / name, status.st_mode)
    assert (place / "own").read_bytes() == NEIGHBOUR
    lines = driven.refusals()
    assert len(lines) >= 6
    assert all(line["event"] == "refused" for line in lines)
    assert secret.read_bytes() == b"of the host, not of the store"
    assert [one.name for one in outside.iterdir()] == ["victim"]
    # What is foreign can be taken away through the mount, or is left alone.
    for name in names:
        path = place / name
        if name != "own" and not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
    driven.refusals()
    assert secret.exists()
    assert (outside / "victim").exists()


PLANTS = {
    "fifo": os.mkfifo,
    "symlink": lambda place: os.symlink("/etc/passwd", place),
    "folder": os.mkdir,
}


@pytest.mark.parametrize("kind", PLANTS)
def test_something_else_under_a_files_name(driven, kind):
    place = driven.mountpoint / "file"
    place.write_bytes(CONTENT)
    (driven.mountpoint / "neighbour").write_bytes(NEIGHBOUR)
    backing = driven.backing_of(place)
    driven.umount()
    backing.unlink()
    PLANTS[kind](backing)
    driven.mount()
    assert sorted(os.listdir(driven.mountpoint)) == ["file", "neighbour"]
    if kind == "folder":
        with fails(errno.EIO):
            os.listdir(place)
    elif kind == "symlink":
        with fails(errno.EIO):
            place.read_bytes()
    else:
        # A FIFO has no content to authenticate; the kernel shows it as one, and it is empty.
        assert stat.S_ISFIFO(place.lstat().st_mode)
        with fails(errno.ENXIO):
            os.open(place, os.O_WRONLY | os.O_NONBLOCK)
    driven.refusals()
    assert (driven.mountpoint / "neighbour").read_bytes() == NEIGHBOUR


def test_a_fifo_planted_while_the_file_is_known(driven):
    """The kernel still takes it for a file, so the driver is asked to open it: it must not hang."""
    place = driven.mountpoint / "file"
    place.write_bytes(CONTENT)
    os.stat(place)
    backing = driven.backing_of(place)
    backing.unlink()
    os.mkfifo(backing)
    with pytest.raises(OSError) as caught:  # noqa: PT011 checked below
        place.read_bytes()
    assert caught.value.errno in (errno.EIO, errno.ESTALE)
    driven.refusals()
    (driven.mountpoint / "alive").write_bytes(b"x")


@pytest.mark.parametrize("how", ["deleted", "changed", "cut", "of another folder"])
def test_a_folders_record(driven, how):
    place = driven.mountpoint / "folder"
    place.mkdir()
    (place / "inner").write_bytes(b"x")
    (driven.mountpoint / "other").mkdir()
    record = driven.backing_of(place) / ".ckfs-dir"
    other = driven.backing_of(driven.mountpoint / "other") / ".ckfs-dir"
    driven.umount()
    raw = record.read_bytes()
    if how == "deleted":
        record.unlink()
    elif how == "changed":
        record.write_bytes(raw[:50] + bytes([raw[50] ^ 1]) + raw[51:])
    elif how == "cut":
        record.write_bytes(raw[:50])
    else:
        record.write_bytes(other.read_bytes())
    driven.mount()
    assert sorted(os.listdir(driven.mountpoint)) == ["folder", "other"]
    assert place.is_dir()
    with fails(errno.EIO):
        os.listdir(place)
    with fails(errno.EIO):
        (place / "inner").read_bytes()
    (line,) = driven.refusals()
    assert line["path"] == "/folder"
    assert os.listdir(driven.mountpoint / "other") == []
