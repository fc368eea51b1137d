"""A store that fails at any one call: the program hears of it, and the old content stays."""

import errno
import os

import pytest
from driver import Driver

from fsdriver.backing import Backing
from fsdriver.changes import Changes
from fsdriver.format.geometry import HEADER_SIZE

SIZE = 4096
FAILURES = [errno.EIO, errno.ENOSPC]


class FailingOnce(Backing):
    """Counts writes and truncates, and lets one of them fail before or in the middle of it."""

    def __init__(self) -> None:
        self.left = -1
        self.code = 0
        self.torn = False

    def arm(self, calls: int, code: int, *, torn: bool) -> None:
        self.left, self.code, self.torn = calls, code, torn

    def disarm(self) -> bool:
        """Whether a call has failed."""
        failed = self.left < 0
        self.left = -1
        return failed

    def _fails(self) -> bool:
        self.left -= 1
        return self.left == -1

    def write(self, descriptor, buffers, offset):
        if self._fails():
            whole = b"".join(buffers)
            # A header is written wholly or not at all; records may be cut anywhere.
            done = len(whole) // 2 if self.torn and len(whole) != HEADER_SIZE else 0
            os.pwrite(descriptor, whole[:done], offset)
            raise OSError(self.code, "failed")
        super().write(descriptor, buffers, offset)

    def truncate(self, descriptor, length):
        if self._fails():
            raise OSError(self.code, "failed")
        super().truncate(descriptor, length)


@pytest.fixture
def driver(tmp_path):
    made = Driver(str(tmp_path), backing=FailingOnce())
    yield made
    made.close()


DENSE = b"".join(bytes([65 + index]) * SIZE for index in range(4)) + b"E" * 100
SPARSE = bytearray(bytes(8 * SIZE))
SPARSE[:10] = b"at the top"
SPARSE[5 * SIZE + 7 : 5 * SIZE + 10] = b"mid"


def write_sparse(driver) -> bytes:
    driver.write_file("file", bytes(SPARSE[:10]))
    driver.write_file("file", b"mid", offset=5 * SIZE + 7)
    driver.fs.setattr(driver.number("file"), Changes(size=8 * SIZE))
    return bytes(SPARSE)


def write_dense(driver) -> bytes:
    driver.write_file("file", DENSE)
    return DENSE


def write_empty(driver) -> bytes:
    driver.write_file("file", b"")
    return b""


def truncate(size):
    def act(driver, _handle):
        driver.fs.setattr(driver.number("file"), Changes(size=size))

    act.__name__ = f"truncate to {size}"
    return act


def write(offset, length):
    def act(driver, handle):
        driver.fs.write(handle, offset, b"w" * length)

    act.__name__ = f"write {length} at {offset}"
    return act


GROWING_OR_SHRINKING = [
    (write_dense, truncate(0)),
    (write_dense, truncate(1)),
    (write_dense, truncate(SIZE)),
    (write_dense, truncate(2 * SIZE + 5)),
    (write_dense, truncate(4 * SIZE)),
    (write_dense, truncate(4 * SIZE + 99)),
    (write_dense, truncate(4 * SIZE + 101)),
    (write_dense, truncate(9 * SIZE)),
    (write_dense, write(len(DENSE), 10)),
    (write_dense, write(len(DENSE), 3 * SIZE)),
    (write_dense, write(9 * SIZE, 10)),
    (write_sparse, truncate(3)),
    (write_sparse, truncate(2 * SIZE + 5)),
    (write_sparse, truncate(5 * SIZE + 9)),
    (write_sparse, truncate(7 * SIZE)),
    (write_sparse, truncate(20 * SIZE + 1)),
    (write_sparse, write(8 * SIZE, 10)),
    (write_empty, truncate(5)),
    (write_empty, truncate(3 * SIZE)),
    (write_empty, write(0, 3 * SIZE)),
    (write_empty, write(3 * SIZE, 5)),
]
IN_PLACE = [(write_dense, write(10, 10)), (write_dense, write(SIZE - 5, 3 * SIZE))]


def cases(pairs):
    names = [f"{make.__name__}, {act.__name__}" for make, act in pairs]
    return pytest.mark.parametrize(("make", "act"), pairs, ids=names)


def content(driver, handle) -> bytes:
    size = driver.fs.getattr(driver.number("file")).size
    return bytes(driver.fs.read(handle, 0, size + 1))


def fails_at_every_call(driver, make, act, *, code, torn) -> None:
    for calls in range(100):
        if calls:
            driver.fs.unlink(*driver.split("file"))
        old = make(driver)
        handle = driver.fs.open(driver.number("file"), os.O_RDWR)
        driver.backing.arm(calls, code, torn=torn)
        try:
            act(driver, handle)
        except OSError as error:
            assert error.errno == code
        else:
            if driver.backing.disarm():
                # A full store was made room in, by a checkpoint, and the call was made again.
                assert code == errno.ENOSPC, "an error of the store was not passed on"
                assert content(driver, handle) != old
                driver.fs.release(handle)
                continue
            assert calls, "nothing was written"
            driver.fs.release(handle)
            return
        assert driver.backing.disarm()
        assert content(driver, handle) == old, calls
        driver.fs.flush(handle)
        assert content(driver, handle) == old, calls
        driver.fs.release(handle)
        assert driver.read_file("file") == old, calls
        driver.reopen()
        assert driver.read_file("file") == old, calls
        # What failed once does not fail for ever.
        handle = driver.fs.open(driver.number("file"), os.O_RDWR)
        act(driver, handle)
        new = content(driver, handle)
        driver.fs.release(handle)
        assert new != old
        driver.reopen()
        assert driver.read_file("file") == new, calls
    pytest.fail("the operation never succeeded")


@pytest.mark.parametrize("code", FAILURES, ids=errno.errorcode.get)
@cases(GROWING_OR_SHRINKING)
def test_a_file_that_cannot_grow_or_shrink_stays_as_it_was(driver, make, act, code):
    fails_at_every_call(driver, make, act, code=code, torn=False)


@cases(GROWING_OR_SHRINKING)
def test_a_file_that_grew_or_shrank_by_half_a_write_stays_as_it_was(driver, make, act):
    fails_at_every_call(driver, make, act, code=errno.ENOSPC, torn=True)


@cases(IN_PLACE)
def test_a_file_that_cannot_be_changed_stays_as_it_was(driver, make, act):
    fails_at_every_call(driver, make, act, code=errno.EIO, torn=False)


@cases(GROWING_OR_SHRINKING)
def test_killed_right_after_the_failure(driver, make, act):
    """Nobody was told that anything changed, so nothing may have."""
    for calls in range(100):
        if calls:
            driver.fs.unlink(*driver.split("file"))
        old = make(driver)
        handle = driver.fs.open(driver.number("file"), os.O_RDWR)
        driver.backing.arm(calls, errno.EIO, torn=True)
        try:
            act(driver, handle)
        except OSError:
            assert driver.backing.disarm()
        else:
            assert not driver.backing.disarm()
            driver.fs.release(handle)
            return
        driver.drop()
        driver.open()
        assert driver.read_file("file") == old, calls
    pytest.fail("the operation never succeeded")
