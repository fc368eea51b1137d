"""fallocate and lseek against a file of tmpfs, whose pages are as large as the chunks here."""

import errno
import os
import tempfile

import hypothesis.strategies as st
import pytest
from driver import CALLER, IN_MEMORY, Driver
from hypothesis import HealthCheck, given, settings

from fsdriver.backing import Backing
from fsdriver.changes import Changes
from fsdriver.contents import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
from fsdriver.inodes import ROOT

SIZE = 4096
COLLAPSE_RANGE, INSERT_RANGE, UNSHARE_RANGE = 8, 32, 64

OFFSETS = st.one_of(st.integers(0, 8 * SIZE), st.integers(0, 8).map(lambda chunk: chunk * SIZE))
LENGTHS = st.one_of(st.integers(1, 3 * SIZE), st.integers(1, 4).map(lambda chunks: chunks * SIZE))
CALLS = st.one_of(
    st.tuples(st.sampled_from(["write", "punch"]), OFFSETS, LENGTHS),
    st.tuples(st.sampled_from(["reserve", "reserve more", "checkpoint"]), OFFSETS, LENGTHS),
    st.tuples(st.just("truncate"), OFFSETS, st.just(0)),
)


@pytest.fixture(scope="module")
def lasting():
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        made = Driver(folder)
        yield made
        made.close()


def data(lseek, descriptor, size):
    """Which whole chunks are data; of the last one, when it is partial, zeros may be or not."""
    found, offset = set(), 0
    while offset < size:
        try:
            offset = lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO
            break
        assert offset % SIZE == 0
        end = lseek(descriptor, offset, os.SEEK_HOLE)
        assert offset < end <= size
        assert lseek(descriptor, end - 1, os.SEEK_DATA) == end - 1
        found |= set(range(offset // SIZE, end // SIZE))
        offset = end
    return found


@pytest.mark.skipif(IN_MEMORY is None, reason="there is no tmpfs")
@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(calls=st.lists(CALLS, max_size=10))
def test_content_size_and_holes_are_those_of_a_plain_file(lasting, calls):
    fs = lasting.fs
    attributes, handle = fs.tmpfile(ROOT, 0o644, os.O_RDWR, CALLER)
    with tempfile.TemporaryFile(dir=IN_MEMORY, buffering=0) as plain:
        descriptor = plain.fileno()
        for number, (call, offset, length) in enumerate(calls, 1):
            if call == "write":
                fs.write(handle, offset, bytes([number]) * length)
                os.pwrite(descriptor, bytes([number]) * length, offset)
            elif call == "truncate":
                fs.setattr(attributes.number, Changes(size=offset))
                os.ftruncate(descriptor, offset)
            elif call == "punch":
                fs.fallocate(handle, KEEP_SIZE | PUNCH_HOLE, offset, length)
                Backing().clear(descriptor, offset, length)
            elif call == "checkpoint":
                lasting.checkpoint()
            else:
                grows = call == "reserve more"
                fs.fallocate(handle, 0 if grows else KEEP_SIZE, offset, length)
                if grows:
                    os.posix_fallocate(descriptor, offset, length)
                else:
                    Backing().allocate(descriptor, offset, length)
        size = os.fstat(descriptor).st_size
        assert fs.getattr(attributes.number).size == size
        assert bytes(fs.read(handle, 0, size + 1)) == os.pread(descriptor, size + 1, 0)
        ours, theirs = data(fs.lseek, handle, size), data(os.lseek, descriptor, size)
        # What tmpfs has reserved becomes data there when it is read, or zeroed in part.
        reserved = any(call.startswith("reserve") for call, *_rest in calls)
        assert ours <= theirs if reserved else ours == theirs
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            with pytest.raises(OSError, match="ENXIO"):
                fs.lseek(handle, size, whence)
    fs.release(handle)


def made(driver, content, flags=os.O_RDWR):
    attributes, handle = driver.fs.create(ROOT, b"f", 0o644, flags, CALLER)
    driver.fs.write(handle, 0, content)
    return attributes.number, handle


def blocks(driver):
    return os.stat(driver.backing_path("f")).st_blocks


def test_what_is_punched_out_is_given_back_at_the_next_checkpoint(driver):
    _number, handle = made(driver, b"x" * 64 * SIZE)
    driver.checkpoint()
    before = blocks(driver)
    driver.fs.fallocate(handle, KEEP_SIZE | PUNCH_HOLE, 100, 60 * SIZE)
    driver.checkpoint()
    assert blocks(driver) <= before - 58 * SIZE // 512
    driver.reopen()
    content = driver.read_file("f")
    assert content == b"x" * 100 + bytes(60 * SIZE) + b"x" * (4 * SIZE - 100)


@pytest.mark.parametrize("mode", [0, KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE])
def test_what_is_reserved_has_its_room_and_keeps_it(driver, mode):
    number, handle = made(driver, b"x" * SIZE)
    driver.fs.fallocate(handle, KEEP_SIZE | PUNCH_HOLE, 0, SIZE)
    driver.fs.fallocate(handle, mode, 0, 64 * SIZE)
    driver.checkpoint()
    assert blocks(driver) >= 64 * SIZE // 512
    assert driver.fs.getattr(number).size == (SIZE if mode & KEEP_SIZE else 64 * SIZE)
    driver.fs.write(handle, 10 * SIZE, b"y" * SIZE)
    driver.checkpoint()
    assert blocks(driver) <= 64 * SIZE // 512 + 64


class Full(Backing):
    """A store's filesystem that has no room, or promises none."""

    code = 0

    def allocate(self, *arguments):
        if self.code:
            raise OSError(self.code, os.strerror(self.code))
        super().allocate(*arguments)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EOPNOTSUPP])
def test_a_file_is_as_it_was_when_there_is_no_room(tmp_path, code):
    backing = Full()
    driver = Driver(str(tmp_path), backing=backing)
    number, handle = made(driver, b"x" * 100)
    backing.code = code
    with pytest.raises(OSError, match=os.strerror(code)) as refused:
        driver.fs.fallocate(handle, 0, 0, 10 * SIZE)
    assert refused.value.errno == code
    assert driver.fs.getattr(number).size == 100
    driver.close()


@pytest.mark.parametrize(
    ("mode", "offset", "length", "code"),
    [
        (PUNCH_HOLE, 0, 1, errno.EOPNOTSUPP),
        (COLLAPSE_RANGE, 0, SIZE, errno.EOPNOTSUPP),
        (INSERT_RANGE, 0, SIZE, errno.EOPNOTSUPP),
        (UNSHARE_RANGE, 0, SIZE, errno.EOPNOTSUPP),
        (0, 0, 0, errno.EINVAL),
        (0, -1, 5, errno.EINVAL),
        (0, 1 << 62, 1 << 62, errno.EFBIG),
    ],
)
def test_what_is_not_done_is_refused(driver, mode, offset, length, code):
    number, handle = made(driver, b"x" * 100)
    with pytest.raises(OSError, match=errno.errorcode[code]) as refused:
        driver.fs.fallocate(handle, mode, offset, length)
    assert refused.value.errno == code
    assert driver.read_file("f") == b"x" * 100
    reading = driver.fs.open(number, os.O_RDONLY)
    with pytest.raises(OSError, match="EBADF"):
        driver.fs.fallocate(reading, 0, 0, 1)


def test_many_holes_are_kept_in_pages_and_can_be_punched_again(driver):
    """The pages of the map lie in holes, and holes are what is cleared."""
    chunks = 1200
    _number, handle = made(driver, b"x" * chunks * SIZE)
    for first in range(0, chunks, 2):
        driver.fs.fallocate(handle, KEEP_SIZE | PUNCH_HOLE, first * SIZE, SIZE)
        if first % 300 == 0:
            driver.checkpoint()
    driver.fs.fallocate(handle, KEEP_SIZE | PUNCH_HOLE, 0, 9 * SIZE)
    driver.fs.flush(handle)
    driver.fs.release(handle)
    expected = bytearray((bytes(SIZE) + b"x" * SIZE) * (chunks // 2))
    expected[: 9 * SIZE] = bytes(9 * SIZE)
    driver.drop()
    driver.open()
    assert driver.read_file("f") == expected
    driver.checkpoint()
    driver.reopen()
    assert driver.read_file("f") == expected
