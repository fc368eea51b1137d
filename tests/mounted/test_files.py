"""Files through the kernel: open, read, write, truncate, holes, times, modes, and no name left."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import resource
import stat
import subprocess
import time

import pytest

from tests.mounted.driving import fails

pytestmark = pytest.mark.mounted

KIB = 1024
MIB = KIB * KIB
SIZES = (0, 1, 5000, 65535, 65536, 65537, 3 * 65536 + 7, 2 * MIB + 1)


@pytest.mark.parametrize("size", SIZES)
def test_content_comes_back_with_its_size(folder, size):
    content = random.Random(size).randbytes(size)
    place = folder / "file"
    place.write_bytes(content)
    assert place.stat().st_size == size
    assert place.read_bytes() == content


def test_content_survives_a_remount(driven):
    contents = {f"file {size}": os.urandom(size) for size in SIZES}
    for name, content in contents.items():
        (driven.mountpoint / name).write_bytes(content)
    driven.remount()
    assert {one.name for one in driven.mountpoint.iterdir()} == set(contents)
    for name, content in contents.items():
        assert (driven.mountpoint / name).read_bytes() == content


def test_exclusive_creation_refuses_a_taken_name(folder):
    place = folder / "file"
    os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with fails(errno.EEXIST):
        os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    (folder / "link").symlink_to("nowhere")
    with fails(errno.EEXIST):
        os.open(folder / "link", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)


def test_opening_with_truncation_empties_for_everybody(folder):
    place = folder / "file"
    place.write_bytes(b"x" * 100_000)
    with place.open("rb") as reader:
        assert reader.read(10) == b"x" * 10
        os.close(os.open(place, os.O_WRONLY | os.O_TRUNC))
        assert os.fstat(reader.fileno()).st_size == 0
        assert os.pread(reader.fileno(), 10, 0) == b""


def test_a_reader_cannot_write_and_a_writer_cannot_read(folder):
    place = folder / "file"
    place.write_bytes(b"content")
    reading, writing = os.open(place, os.O_RDONLY), os.open(place, os.O_WRONLY)
    try:
        with fails(errno.EBADF):
            os.write(reading, b"no")
        with fails(errno.EBADF):
            os.read(writing, 1)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("size", [0, 1, 4095, 65535, 65536, 65537, 200_000, 5 * MIB, 1 << 40])
def test_truncation_cuts_and_extends_with_zeros(folder, size):
    place = folder / "file"
    content = os.urandom(150_000)
    place.write_bytes(content)
    os.truncate(place, size)
    assert place.stat().st_size == size
    with place.open("rb") as file:
        start = content[:size].ljust(min(size, 2 * len(content)), b"\0")
        assert file.read(2 * len(content)) == start
        file.seek(max(0, size - 100))
        assert file.read() == (content + bytes(100))[max(0, size - 100) : size][:100].ljust(
            min(size, 100), b"\0"
        )


def test_what_was_cut_does_not_come_back(folder):
    place = folder / "file"
    place.write_bytes(b"s" * 100_000)
    os.truncate(place, 10)
    os.truncate(place, 100_000)
    assert place.read_bytes() == b"s" * 10 + bytes(99_990)


def test_a_size_beyond_what_the_store_can_hold_is_refused(folder):
    place = folder / "file"
    place.write_bytes(b"kept")
    with fails(errno.EFBIG):
        os.truncate(place, (1 << 63) - 1)
    with place.open("r+b") as file, fails(errno.EFBIG):
        os.pwrite(file.fileno(), b"x", (1 << 63) - 10_000)
    with fails(errno.EINVAL):
        os.truncate(place, -1)
    assert place.read_bytes() == b"kept"
    assert place.stat().st_size == 4


def test_a_file_size_limit_of_the_process_holds(folder):
    # The signal that comes with it is ignored by Python, so the call fails instead.
    place = folder / "file"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    with place.open("wb") as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, old[1]))
        try:
            assert os.pwrite(file.fileno(), bytes(8000), 0) == 5000
            with fails(errno.EFBIG):
                os.pwrite(file.fileno(), b"x", 5000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert place.stat().st_size == 5000


def test_holes_read_as_zeros_and_take_no_room(folder, shared):
    place = folder / "file"
    with place.open("wb") as file:
        file.write(b"begin")
        file.seek(50 * MIB)
        file.write(b"end")
    assert place.stat().st_size == 50 * MIB + 3
    assert place.stat().st_blocks * 512 < MIB
    assert shared.backing_of(place).stat().st_blocks * 512 < MIB
    with place.open("rb") as file:
        assert file.read(10) == b"begin" + bytes(5)
        file.seek(25 * MIB)
        assert file.read(MIB) == bytes(MIB)
        file.seek(50 * MIB - 2)
        assert file.read() == b"\0\0end"


def test_holes_survive_a_remount_and_are_filled_in_any_order(driven):
    place = driven.mountpoint / "file"
    random_order = random.Random(1)
    expected = bytearray(3 * MIB)
    with place.open("wb") as file:
        file.truncate(len(expected))
    for _turn in range(3):
        with place.open("r+b") as file:
            for _ in range(10):
                at = random_order.randrange(len(expected) - 100_000)
                piece = random_order.randbytes(random_order.randrange(1, 100_000))
                os.pwrite(file.fileno(), piece, at)
                expected[at : at + len(piece)] = piece
        driven.remount()
        assert place.read_bytes() == expected


def test_a_file_may_be_nearly_all_hole(driven):
    # 15 TiB is beyond what may be walked chunk by chunk, in whatever call.
    place = driven.mountpoint / "file"
    size = 15 << 40
    began = time.monotonic()
    with place.open("wb") as file:
        file.write(b"begin")
        try:
            file.truncate(size)
        except OSError as error:
            if error.errno == errno.EFBIG:
                pytest.skip("the filesystem below does not hold files of that size")
            raise
    driven.remount()
    with place.open("r+b") as file:
        assert file.read(5) == b"begin"
        assert os.pread(file.fileno(), 100, size - 50) == bytes(50)
        os.pwrite(file.fileno(), b"end", size // 2)
        file.truncate(size // 4)
    assert os.stat(place).st_size == size // 4
    place.unlink()
    assert time.monotonic() - began < 20


def test_append_goes_to_the_end_whoever_wrote_last(folder):
    place = folder / "file"
    first = os.open(place, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    second = os.open(place, os.O_WRONLY | os.O_APPEND)
    for turn in range(50):
        os.write(first, b"a%05d" % turn)
        os.write(second, b"b%05d" % turn)
    os.close(first)
    os.close(second)
    expected = b"".join(b"a%05d" % turn + b"b%05d" % turn for turn in range(50))
    assert place.read_bytes() == expected


def test_a_file_without_a_name_lives_until_it_is_closed(folder, shared):
    place = folder / "file"
    place.write_bytes(b"before")
    descriptor = os.open(place, os.O_RDWR)
    backing = shared.backing_of(place)
    place.unlink()
    assert not backing.exists()
    assert os.listdir(folder) == []
    assert os.pread(descriptor, 100, 0) == b"before"
    assert os.fstat(descriptor).st_nlink == 0
    assert os.pwrite(descriptor, b"x" * 200_000, 6) == 200_000
    os.fsync(descriptor)
    assert os.fstat(descriptor).st_size == 200_006
    os.ftruncate(descriptor, 70_000)
    assert os.pread(descriptor, 100_000, 0) == b"before" + b"x" * 69_994
    os.fchmod(descriptor, 0o640)
    os.fchown(descriptor, 65534, 65534)
    os.utime(descriptor, ns=(1, 2))
    os.setxattr(descriptor, "user.k", b"v")
    assert os.getxattr(descriptor, "user.k") == b"v"
    status = os.fstat(descriptor)
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert (status.st_uid, status.st_gid) == (65534, 65534)
    assert (status.st_atime_ns, status.st_mtime_ns) == (1, 2)
    os.fdatasync(descriptor)
    os.close(descriptor)


def test_a_name_used_again_is_another_file(folder):
    place = folder / "file"
    place.write_bytes(b"old" * 50_000)
    descriptor = os.open(place, os.O_RDWR)
    place.unlink()
    place.write_bytes(b"new")
    os.pwrite(descriptor, b"changed", 0)
    assert os.pread(descriptor, 7, 0) == b"changed"
    assert os.fstat(descriptor).st_ino != place.stat().st_ino
    os.close(descriptor)
    assert place.read_bytes() == b"new"


def test_times_are_kept_to_the_nanosecond(driven):
    places = [driven.mountpoint / name for name in ("file", "folder", "link")]
    places[0].write_bytes(b"x")
    places[1].mkdir()
    places[2].symlink_to("nowhere")
    wanted = (1_700_000_000_123_456_789, 1_600_000_000_987_654_321)
    for place in places:
        os.utime(place, ns=wanted, follow_symlinks=False)
    driven.remount()
    for place in places:
        status = place.lstat()
        assert (status.st_atime_ns, status.st_mtime_ns) == wanted, place


def test_a_time_can_be_set_alone(folder):
    place = folder / "file"
    place.write_bytes(b"x")
    os.utime(place, ns=(5_000_000_001, 6_000_000_002))
    # touch passes UTIME_OMIT for the other time; -h keeps it from opening the file first.
    subprocess.run(["touch", "-h", "-a", "-d", "@7", place], check=True)
    assert (place.stat().st_atime_ns, place.stat().st_mtime_ns) == (7_000_000_000, 6_000_000_002)
    subprocess.run(["touch", "-h", "-m", "-d", "@8", place], check=True)
    assert (place.stat().st_atime_ns, place.stat().st_mtime_ns) == (7_000_000_000, 8_000_000_000)


def test_times_set_while_written_to_stay(folder):
    # rsync and cp set times before they close, and a seal comes after that.
    place = folder / "file"
    with place.open("wb", buffering=0) as file:
        file.write(b"x" * 200_000)
        os.utime(file.fileno(), ns=(10**18 + 1, 10**18 + 2))
    status = place.stat()
    assert (status.st_atime_ns, status.st_mtime_ns) == (10**18 + 1, 10**18 + 2)


def test_writing_and_truncating_move_the_mtime(folder):
    place = folder / "file"
    place.write_bytes(b"x" * 100)
    for change in (
        lambda: place.write_bytes(b"y"),
        lambda: os.truncate(place, 0),
        lambda: os.truncate(place, 50),
    ):
        os.utime(place, ns=(0, 0))
        change()
        assert abs(place.stat().st_mtime - time.time()) < 60


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o644, 0o755, 0o4755, 0o2755, 0o1777])
def test_modes(folder, mode):
    place = folder / "file"
    place.write_bytes(b"x")
    place.chmod(mode)
    assert stat.S_IMODE(place.stat().st_mode) == mode


def test_the_umask_counts(folder):
    old = os.umask(0o027)
    try:
        os.close(os.open(folder / "file", os.O_CREAT | os.O_WRONLY, 0o777))
        (folder / "folder").mkdir()
        os.mkfifo(folder / "fifo")
    finally:
        os.umask(old)
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()}
    assert modes == {"file": 0o750, "folder": 0o750, "fifo": 0o640}


def test_owners(folder):
    place = folder / "file"
    place.write_bytes(b"x")
    os.chown(place, 1234, 5678)
    assert (place.stat().st_uid, place.stat().st_gid) == (1234, 5678)
    os.chown(place, -1, 99)
    assert (place.stat().st_uid, place.stat().st_gid) == (1234, 99)


def test_locks_hold_between_descriptors(folder):
    place = folder / "file"
    place.write_bytes(b"x")
    with place.open("r+b") as first, place.open("r+b") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        with fails(errno.EAGAIN):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_direct_io(folder):
    place = folder / "file"
    content = os.urandom(3 * 65536)
    descriptor = os.open(place, os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o600)
    try:
        assert os.pwrite(descriptor, content, 0) == len(content)
        assert os.pread(descriptor, len(content), 0) == content
    finally:
        os.close(descriptor)
    assert place.read_bytes() == content


def test_the_free_space_is_that_of_the_store(shared, folder):
    shown, real = os.statvfs(folder), os.statvfs(shared.store)
    assert shown.f_blocks * shown.f_frsize == real.f_blocks * real.f_frsize
    assert shown.f_files == real.f_files
    assert shown.f_namemax == 255
