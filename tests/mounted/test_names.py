"""Names through the kernel: folders, symlinks, hard links, nodes, listings, odd names."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import threading

import pytest

from tests.mounted.driving import fails

pytestmark = pytest.mark.mounted

NAMES = [
    "x",
    "x" * 255,
    "n" * 200,
    "ä" * 127,
    "日本語" * 28,
    "with\nnewline",
    "with 'quotes\" and \\ and \t",
    " leading blank",
    "trailing blank ",
    ".hidden",
    "-rf",
    "~",
    "CON",
    "Upper and lower",
    "upper AND LOWER",
    "🔑" * 60,
    "e\u0301",
    "\u00e9",
    os.fsdecode(b"\xff\xfe not UTF-8 \x80"),
    "long." * 51,
]
CKFS_NAMES = [".ckfs", ".ckfs-dir", ".ckfs-long.x", ".ckfs-tmp-1", ".ckfs-foreign", ".ckfsx"]


def make_names(place, names):
    for name in names:
        (place / name).write_bytes(os.fsencode(name))
        # A folder cannot share the name, so it lies in a folder of its own.
    (place / "folders").mkdir()
    for name in names:
        (place / "folders" / name).mkdir()
        (place / "folders" / name / name).symlink_to(name)


def check_names(place, names):
    assert sorted(os.listdir(place)) == sorted([*names, "folders"])
    assert sorted(os.listdir(place / "folders")) == sorted(names)
    for name in names:
        assert (place / name).read_bytes() == os.fsencode(name)
        assert os.listdir(place / "folders" / name) == [name]
        assert os.readlink(place / "folders" / name / name) == name


@pytest.mark.parametrize("mode", ["encrypted", "plaintext"])
def test_names_of_all_kinds_survive_a_remount(fresh, mode):
    plaintext = mode == "plaintext"
    driven = fresh(*(["--plaintext-names"] if plaintext else []))
    place = driven.mount()
    names = NAMES if plaintext else NAMES + CKFS_NAMES
    make_names(place, names)
    check_names(place, names)
    if plaintext:
        for name in CKFS_NAMES:
            with fails(errno.EPERM):
                (place / name).write_bytes(b"x")
            with fails(errno.EPERM):
                (place / name).mkdir()
            with fails(errno.EPERM):
                (place / name).symlink_to("x")
            with fails(errno.EPERM):
                os.link(place / "x", place / name)
            with fails(errno.EPERM):
                os.rename(place / "x", place / name)
            assert not (place / name).exists()
        assert (driven.store / "x").is_file()
    driven.remount()
    check_names(place, names)
    subprocess.run(["rm", "-rf", "--", *(place / name for name in names)], check=True)
    subprocess.run(["rm", "-rf", place / "folders"], check=True)
    assert os.listdir(place) == []
    left = set(os.listdir(driven.store))
    assert left == {".ckfs", ".ckfs-dir"}


def test_long_names_are_renamed_linked_and_removed(driven):
    place = driven.mountpoint
    long, longer = "a" * 240, "b" * 255
    (place / long).write_bytes(b"content")
    os.rename(place / long, place / longer)
    os.link(place / longer, place / long)
    os.rename(place / long, place / "short")
    os.rename(place / "short", place / long)
    (place / "other").write_bytes(b"x")
    os.rename(place / "other", place / longer)
    driven.remount()
    assert sorted(os.listdir(place)) == [long, longer]
    assert (place / long).read_bytes() == b"content"
    (place / long).unlink()
    (place / longer).unlink()
    assert set(os.listdir(driven.store)) == {".ckfs", ".ckfs-dir"}


def test_a_name_of_more_than_255_bytes_is_refused(folder):
    for name in ("x" * 256, "ä" * 128):
        with fails(errno.ENAMETOOLONG):
            (folder / name).write_bytes(b"x")
        with fails(errno.ENAMETOOLONG):
            (folder / name).stat()


def test_folders(folder):
    place = folder / "folder"
    place.mkdir()
    with fails(errno.EEXIST):
        place.mkdir()
    (place / "inner").mkdir()
    assert place.stat().st_nlink == 3
    with fails(errno.ENOTEMPTY):
        place.rmdir()
    with fails(errno.EISDIR):
        os.open(place, os.O_WRONLY)
    with fails(errno.EISDIR):
        place.unlink()
    (folder / "file").write_bytes(b"x")
    with fails(errno.ENOTDIR):
        (folder / "file" / "below").stat()
    with fails(errno.ENOTDIR):
        (folder / "file").rmdir()
    (place / "inner").rmdir()
    place.rmdir()
    with fails(errno.ENOENT):
        place.stat()


def test_a_removed_folder_that_is_somebodys_working_folder(folder):
    place = folder / "folder"
    place.mkdir()
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        place.rmdir()
        assert os.listdir(descriptor) == []
        with fails(errno.ENOENT):
            os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
        os.fstat(descriptor)
    finally:
        os.close(descriptor)


def test_a_folder_that_hands_on_its_group(folder):
    place = folder / "folder"
    place.mkdir()
    os.chown(place, 0, 4321)
    place.chmod(0o2775)
    (place / "inner").mkdir()
    (place / "file").write_bytes(b"x")
    assert (place / "inner").stat().st_gid == (place / "file").stat().st_gid == 4321
    assert place.joinpath("inner").stat().st_mode & stat.S_ISGID


@pytest.mark.parametrize("length", [1, 100, 255, 3000, 3021])
def test_symlinks_of_any_length_that_fits(folder, length):
    target = ("t/" * length)[:length]
    place = folder / "link"
    place.symlink_to(target)
    assert os.readlink(place) == target
    assert place.lstat().st_size == length
    assert stat.S_ISLNK(place.lstat().st_mode)


def test_a_symlink_that_does_not_fit_is_refused(folder):
    for length in (3022, 4095):
        with fails(errno.ENAMETOOLONG):
            (folder / "link").symlink_to("t" * length)
    with fails(errno.ENOENT):
        (folder / "link").symlink_to("")
    assert os.listdir(folder) == []


def test_symlinks_lead_where_they_say(folder):
    (folder / "file").write_bytes(b"content")
    (folder / "inner").mkdir()
    (folder / "inner" / "up").symlink_to("../file")
    (folder / "inner" / "absolute").symlink_to(folder / "file")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    assert (folder / "inner" / "up").read_bytes() == b"content"
    assert (folder / "inner" / "absolute").read_bytes() == b"content"
    with fails(errno.ENOENT):
        (folder / "dangling").stat()
    with fails(errno.ELOOP):
        (folder / "loop").stat()
    (folder / "dangling").write_bytes(b"made through the link")
    assert (folder / "nowhere").read_bytes() == b"made through the link"
    os.chown(folder / "dangling", 5, 6, follow_symlinks=False)
    assert (folder / "dangling").lstat().st_uid == 5
    assert (folder / "nowhere").stat().st_uid == 0


def test_hard_links_share_content_and_count(driven):
    first, second, third = (driven.mountpoint / name for name in ("1", "2", "3"))
    first.write_bytes(b"content")
    os.link(first, second)
    assert first.stat().st_nlink == second.stat().st_nlink == 2
    assert first.stat().st_ino == second.stat().st_ino
    second.write_bytes(b"changed by the second name")
    assert first.read_bytes() == b"changed by the second name"
    os.rename(second, third)
    first.unlink()
    assert third.stat().st_nlink == 1
    assert third.read_bytes() == b"changed by the second name"
    with fails(errno.EEXIST):
        os.link(third, third)
    (driven.mountpoint / "folder").mkdir()
    with fails(errno.EPERM):
        os.link(driven.mountpoint / "folder", driven.mountpoint / "4")
    driven.remount()
    assert third.read_bytes() == b"changed by the second name"


def test_many_hard_links_over_folders_and_remounts(driven):
    # More links than a header has bindings, made, renamed and removed in every order.
    place = driven.mountpoint
    for number in range(4):
        (place / f"folder {number}").mkdir()
    names = [place / f"folder {number % 4}" / f"link {number}" for number in range(12)]
    names[0].write_bytes(b"shared")
    for name in names[1:]:
        os.link(names[0], name)
    driven.remount()
    assert {name.read_bytes() for name in names} == {b"shared"}
    assert {name.stat().st_nlink for name in names} == {12}
    os.rename(names[3], place / "moved")
    for name in [*names[:3], *names[4:11]]:
        name.unlink()
        assert (place / "moved").read_bytes() == b"shared"
    driven.remount()
    assert (place / "moved").stat().st_nlink == 2
    assert names[11].read_bytes() == (place / "moved").read_bytes() == b"shared"
    names[11].unlink()
    assert (place / "moved").read_bytes() == b"shared"


def test_hard_links_of_symlinks(driven):
    first, second = driven.mountpoint / "1", driven.mountpoint / "2"
    first.symlink_to("target")
    os.link(first, second, follow_symlinks=False)
    assert second.lstat().st_nlink == 2
    driven.remount()
    os.rename(first, driven.mountpoint / "3")
    second.unlink()
    assert os.readlink(driven.mountpoint / "3") == "target"
    driven.remount()
    assert os.readlink(driven.mountpoint / "3") == "target"


def test_nodes_without_content(folder):
    os.mkfifo(folder / "fifo", 0o644)
    os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as server:
        # A socket's path is shorter than most paths of tests.
        old = os.getcwd()
        os.chdir(folder)
        try:
            server.bind("socket")
            server.listen()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect("socket")
        finally:
            os.chdir(old)
    assert stat.S_ISFIFO((folder / "fifo").stat().st_mode)
    assert stat.S_ISSOCK((folder / "socket").stat().st_mode)
    status = (folder / "null").stat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == os.makedev(1, 3)
    assert (folder / "null").read_bytes() == b""
    writer = threading.Thread(target=lambda: (folder / "fifo").write_bytes(b"through the fifo"))
    writer.start()
    assert (folder / "fifo").read_bytes() == b"through the fifo"
    writer.join()
    os.rename(folder / "fifo", folder / "renamed")
    os.chmod(folder / "renamed", 0o600)
    assert sorted(os.listdir(folder)) == ["null", "renamed", "socket"]


def test_a_listing_while_the_folder_changes(folder):
    for number in range(2000):
        os.close(os.open(folder / f"file {number}", os.O_CREAT | os.O_WRONLY))
    seen = []
    with os.scandir(folder) as listing:
        for count, entry in enumerate(listing):
            seen.append(entry.name)
            if count == 100:
                for number in range(0, 2000, 2):
                    (folder / f"file {number}").unlink()
                for number in range(1000):
                    os.close(os.open(folder / f"new {number}", os.O_CREAT | os.O_WRONLY))
    # Names that were there all the time come exactly once, whatever else comes.
    assert len(seen) == len(set(seen))
    assert {f"file {number}" for number in range(1, 2000, 2)} <= set(seen)
    assert len(os.listdir(folder)) == 2000


def test_a_folder_of_a_thousand_files_is_removed_whole(folder, shared):
    place = folder / "folder"
    place.mkdir()
    for number in range(1000):
        (place / f"file {number}").write_bytes(b"x")
    backing = shared.backing_of(place)
    subprocess.run(["rm", "-rf", place], check=True)
    assert not place.exists()
    assert not backing.exists()


def test_deep_folders(folder):
    # The whole path is longer than a path may be, so every step is relative.
    name = "a folder with a long name, repeated"
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(200):
        os.mkdir(name, dir_fd=descriptor)
        inner = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    file = os.open("file", os.O_CREAT | os.O_RDWR, dir_fd=descriptor)
    os.write(file, b"deep")
    assert os.pread(file, 10, 0) == b"deep"
    os.close(file)
    os.close(descriptor)
    subprocess.run(["rm", "-rf", folder / name], check=True)
    assert os.listdir(folder) == []
