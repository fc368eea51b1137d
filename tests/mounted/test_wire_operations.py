"""What only the transport of our own passes on: room, holes, copies, nameless files, and more."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.mounted.driving import as_user, fails, finish, opened, rename

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.mounted.driving import Driven

pytestmark = pytest.mark.mounted

NOBODY = 65534
CHUNK = 65536
RENAME_WHITEOUT = 4
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


@pytest.fixture(scope="module")
def shared(start: Callable[..., Driven]) -> Iterator[Driven]:
    made = start("wire", extra=("--transport", "wire", "-o", "allow_other,suid,dev"))
    made.mount().chmod(0o755)
    yield made
    finish(made)


def fallocate(descriptor, *arguments):
    if _LIBC.fallocate(descriptor, *arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# Room and holes


def test_room_is_reserved_in_the_store(shared, folder):
    with opened(folder / "file") as file:
        os.posix_fallocate(file, 0, 10 << 20)
        assert os.fstat(file).st_size == 10 << 20
        os.pwrite(file, b"x" * 100, 5 << 20)
        assert os.pread(file, 102, (5 << 20) - 1) == b"\0" + b"x" * 100 + b"\0"
    assert shared.backing_of(folder / "file").stat().st_blocks * 512 >= 10 << 20
    with opened(folder / "kept") as file:
        fallocate(file, 1, 0, 1 << 20)
        assert os.fstat(file).st_size == 0
        assert os.fstat(file).st_blocks * 512 >= 1 << 20


def test_no_more_room_than_there_is_can_be_reserved(folder):
    with opened(folder / "file") as file:
        os.write(file, b"x")
        with fails(errno.ENOSPC):
            os.posix_fallocate(file, 0, 1 << 40)
        assert os.fstat(file).st_size == 1
        assert os.fstat(file).st_blocks * 512 < 1 << 20


def test_what_is_punched_out_is_a_hole(folder):
    (folder / "file").write_bytes(b"x" * 16 * CHUNK)
    with opened(folder / "file") as file:
        subprocess.run(
            ["fallocate", "--punch-hole", "-o", "100", "-l", str(12 * CHUNK), folder / "file"],
            check=True,
        )
        assert os.lseek(file, 0, os.SEEK_DATA) == 0
        assert os.lseek(file, 0, os.SEEK_HOLE) == CHUNK
        assert os.lseek(file, 2 * CHUNK, os.SEEK_DATA) == 12 * CHUNK
        assert os.lseek(file, 12 * CHUNK, os.SEEK_HOLE) == 16 * CHUNK
        with fails(errno.ENXIO):
            os.lseek(file, 16 * CHUNK, os.SEEK_DATA)
    expected = b"x" * 100 + bytes(12 * CHUNK) + b"x" * (4 * CHUNK - 100)
    assert (folder / "file").read_bytes() == expected


def test_what_moves_content_is_refused(folder):
    with opened(folder / "file") as file:
        os.write(file, b"x" * 2 * CHUNK)
        for mode in (8, 32):  # FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE
            with fails(errno.EOPNOTSUPP):
                fallocate(file, mode, 0, CHUNK)
        fallocate(file, 16, CHUNK, 2 * CHUNK)  # FALLOC_FL_ZERO_RANGE
    assert (folder / "file").read_bytes() == b"x" * CHUNK + bytes(2 * CHUNK)


# Copies


def test_copy_file_range_copies_within_the_driver(folder):
    content = os.urandom(6 << 20)
    (folder / "from").write_bytes(content)
    with opened(folder / "from", os.O_RDONLY) as source, opened(folder / "to") as target:
        done = os.copy_file_range(source, target, len(content), 0, 7)
        assert 0 < done <= len(content)
        while done < len(content):
            done += os.copy_file_range(source, target, len(content) - done, done, 7 + done)
        assert os.copy_file_range(source, target, 100, len(content), 0) == 0
    assert (folder / "to").read_bytes() == bytes(7) + content
    with opened(folder / "to") as file:
        os.copy_file_range(file, file, 1000, 0, 2 << 20)
        with fails(errno.EINVAL):
            os.copy_file_range(file, file, 1000, 0, 500)
    assert (folder / "to").read_bytes()[2 << 20 :][:1000] == bytes(7) + content[:993]


# Files without a name


def give_name(descriptor, path):
    os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=os.open("/", os.O_PATH))


def test_a_file_without_a_name_gets_one(shared, folder):
    def work():
        with opened(folder, os.O_TMPFILE | os.O_RDWR, 0o640) as file:
            os.write(file, b"y" * 100_000)
            assert os.listdir(folder) == []
            assert os.fstat(file).st_nlink == 0
            give_name(file, folder / "named")
            assert os.fstat(file).st_nlink == 1
            os.write(file, b"z")
        with opened(folder, os.O_TMPFILE | os.O_WRONLY) as file:
            os.write(file, b"x")
            with fails(errno.EEXIST):
                give_name(file, folder / "named")
        with opened(folder, os.O_TMPFILE | os.O_WRONLY | os.O_EXCL) as file, fails(errno.ENOENT):
            give_name(file, folder / "never")

    as_user(NOBODY, work)
    assert os.listdir(folder) == ["named"]
    assert (folder / "named").read_bytes() == b"y" * 100_000 + b"z"
    status = (folder / "named").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (NOBODY, 0o640)
    assert os.listdir(shared.backing_of(folder)).count(".ckfs-dir") == 1
    assert len(os.listdir(shared.backing_of(folder))) == 2


# Status


def test_the_birth_time_is_that_of_the_store(shared, folder):
    before = int(time.time())
    (folder / "file").write_bytes(b"x")

    def born(path):
        shown = subprocess.run(["stat", "-c", "%W", path], capture_output=True, check=True)
        return int(shown.stdout)

    assert born(folder / "file") == born(shared.backing_of(folder / "file"))
    if born(shared.store):
        assert before - 1 <= born(folder / "file") <= time.time() + 1
        os.utime(folder / "file", (1, 1))
        assert born(folder / "file") >= before - 1


def test_the_mount_as_a_whole(shared, folder):
    (folder / "file").write_bytes(b"x")
    subprocess.run(["sync", "-f", folder / "file"], check=True)
    assert os.statvfs(folder).f_namemax == 255
    folders = sum(path.is_dir() for path in shared.mountpoint.iterdir())
    assert shared.mountpoint.stat().st_nlink == 2 + folders
    with fails(errno.EINVAL):
        rename(folder / "file", folder / "other", RENAME_WHITEOUT)
    with opened(folder / "file", os.O_RDONLY) as file, fails(errno.ENOTTY):
        fcntl.ioctl(file, 0x5401, bytes(64))  # TCGETS


# Set-id bits


@pytest.mark.parametrize("how", ["write", "truncate", "O_TRUNC", "chown"])
def test_who_changes_a_file_takes_its_set_id_bits_away(folder, how):
    (folder / "file").write_bytes(b"#!/bin/true")
    os.chown(folder / "file", NOBODY if how == "chown" else 0, NOBODY)
    (folder / "file").chmod(0o6777)
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o6777

    def work():
        if how == "write":
            with opened(folder / "file", os.O_WRONLY) as file:
                os.write(file, b"x")
                os.write(file, b"y")
        elif how == "truncate":
            os.truncate(folder / "file", 5)
        elif how == "O_TRUNC":
            os.close(os.open(folder / "file", os.O_WRONLY | os.O_TRUNC))
        else:
            os.chown(folder / "file", -1, NOBODY)

    as_user(NOBODY, work)
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o777


def test_the_maker_of_a_file_keeps_them_until_it_writes(folder):
    folder.chmod(0o777)
    modes = []

    def work():
        made = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with opened(folder / "file", made, 0o4755) as file:
            modes.append(stat.S_IMODE(os.fstat(file).st_mode))
            os.write(file, b"x")
            modes.append(stat.S_IMODE(os.fstat(file).st_mode))
        assert modes == [0o4755, 0o755]

    as_user(NOBODY, work)


def test_root_may_write_and_leave_them(folder):
    (folder / "file").write_bytes(b"x")
    (folder / "file").chmod(0o6755)
    (folder / "file").write_bytes(b"y")
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o6755


def test_bits_that_come_back_are_taken_again(folder):
    (folder / "file").write_bytes(b"x")
    (folder / "file").chmod(0o4777)

    def work():
        with opened(folder / "file", os.O_WRONLY) as file:
            os.write(file, b"x")

    with opened(folder / "file", os.O_WRONLY):
        for _time in range(2):
            as_user(NOBODY, work)
            assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o777
            (folder / "file").chmod(0o4777)


# How a file is opened


def test_flags_of_open(folder):
    (folder / "file").write_bytes(b"first")
    with opened(folder / "file", os.O_WRONLY | os.O_APPEND) as one:
        with opened(folder / "file", os.O_WRONLY | os.O_APPEND) as other:
            os.write(one, b" second")
            os.write(other, b" third")
            os.write(one, b" fourth")
    assert (folder / "file").read_bytes() == b"first second third fourth"
    with opened(folder / "file", os.O_RDONLY | os.O_NOATIME) as file:
        assert os.read(file, 5) == b"first"
    with opened(folder / "file", os.O_RDWR | os.O_DIRECT) as file:
        assert os.pread(file, 5, 0) == b"first"
        os.pwrite(file, b"F", 0)
    assert (folder / "file").read_bytes()[:1] == b"F"
    with opened(folder / "file", os.O_RDONLY | os.O_TRUNC):
        assert (folder / "file").stat().st_size == 0


def test_reading_moves_the_access_time_as_relatime_does(shared, folder):
    (folder / "file").write_bytes(b"x")
    os.utime(folder / "file", (1_000_000_000, 1_000_000_000))
    (folder / "file").read_bytes()
    first = shared.backing_of(folder / "file").stat().st_atime
    for _time in range(3):
        (folder / "file").read_bytes()
    assert shared.backing_of(folder / "file").stat().st_atime == first


# Locks


@pytest.mark.parametrize("lock", ["flock", "fcntl"])
def test_locks_hold_between_processes(folder, lock):
    (folder / "file").write_bytes(b"x")
    take = {"flock": fcntl.flock, "fcntl": fcntl.lockf}[lock]

    def work():
        with opened(folder / "file") as file, fails(errno.EAGAIN):
            take(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def work_after():
        with opened(folder / "file") as file:
            take(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    with opened(folder / "file") as file:
        take(file, fcntl.LOCK_EX)
        as_user(0, work)
        take(file, fcntl.LOCK_UN)
        as_user(0, work_after)
