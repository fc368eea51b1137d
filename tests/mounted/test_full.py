"""A store that is full: the program hears of it, what was there stays, and nothing is damaged."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from tests.mounted.driving import Driven, fails

pytestmark = pytest.mark.mounted

MIB = 1 << 20


@pytest.fixture
def small(fresh, bounded):
    """A store on a filesystem of 24 MiB."""
    image, place = bounded / "small-image", bounded / "small"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(24 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", "64", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    made = fresh(backing=place)
    made.mount()
    yield made
    made.end_mount()
    subprocess.run(["umount", place], check=True)
    image.unlink()
    place.rmdir()


def fill(driven: Driven) -> None:
    """Until the last block is gone; written past the driver, so that nothing of it is special."""
    rest = os.open(driven.backing / "filler", os.O_CREAT | os.O_WRONLY | os.O_SYNC | os.O_APPEND)
    size = MIB
    while size:
        try:
            os.write(rest, bytes(size))
        except OSError as error:
            assert error.errno == errno.ENOSPC
            size = 0 if size == 1024 else size // 2
    os.close(rest)


def test_a_full_store_refuses_and_the_old_content_stays(small):
    place = small.mountpoint / "file"
    old = os.urandom(300_000)
    place.write_bytes(old)
    fill(small)
    with place.open("r+b", buffering=0) as file:
        with fails(errno.ENOSPC):
            for at in range(16):
                os.pwrite(file.fileno(), os.urandom(MIB), len(old) + at * MIB)
                os.fsync(file.fileno())
        grown = os.fstat(file.fileno()).st_size
        assert grown >= len(old)
    assert place.read_bytes()[: len(old)] == old
    small.remount()
    assert place.stat().st_size == grown
    assert place.read_bytes()[: len(old)] == old


def test_a_full_store_lets_go_of_what_is_deleted(small):
    (small.mountpoint / "large").write_bytes(os.urandom(4 * MIB))
    fill(small)
    with fails(errno.ENOSPC):
        (small.mountpoint / "more").write_bytes(os.urandom(4 * MIB))
    (small.mountpoint / "large").unlink()
    (small.mountpoint / "more").unlink(missing_ok=True)
    content = os.urandom(3 * MIB)
    (small.mountpoint / "after").write_bytes(content)
    small.remount()
    assert os.listdir(small.mountpoint) == ["after"]
    assert (small.mountpoint / "after").read_bytes() == content


def test_a_store_without_inodes_refuses_names_and_keeps_what_it_has(small):
    made = []
    with fails(errno.ENOSPC):
        for number in range(200):
            (small.mountpoint / f"folder {number}").mkdir()
            made.append(f"folder {number}")
    with fails(errno.ENOSPC):
        for number in range(10):
            (small.mountpoint / f"file {number}").write_bytes(b"x")
            made.append(f"file {number}")
    with fails(errno.ENOSPC):
        for number in range(10):
            (small.mountpoint / f"link {number}").symlink_to("somewhere")
            made.append(f"link {number}")
    small.remount()
    assert sorted(os.listdir(small.mountpoint)) == sorted(made)
    assert not [name for name in os.listdir(small.store) if name.startswith(".ckfs-tmp")]
    for one in small.mountpoint.iterdir():
        if one.name.startswith("folder"):
            one.rmdir()
    (small.mountpoint / "room again").mkdir()
