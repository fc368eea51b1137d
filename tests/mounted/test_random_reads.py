"""Files that are read here and there: the kernel gets whole chunks of them, and no older ones."""

from __future__ import annotations

import os
import random
import struct
import time
from typing import TYPE_CHECKING

import pytest

from tests.mounted.driving import beside, opened

if TYPE_CHECKING:
    import threading

pytestmark = pytest.mark.mounted

PAGE = 4096
CHUNK = 1 << 16
CHUNKS = 8
PAGES = CHUNKS * CHUNK // PAGE


def test_pages_near_what_was_read_need_no_driver(driven, folder):
    content = random.Random(1).randbytes(CHUNKS * CHUNK - 1000)
    (folder / "file").write_bytes(content)
    driven.remount()
    with opened(folder / "file", os.O_RDONLY) as file:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        for chunk in (3, CHUNKS - 1):
            for page in (7, 2):
                at = chunk * CHUNK + page * PAGE
                assert os.pread(file, PAGE, at) == content[at : at + PAGE]
        for at in range(0, len(content), PAGE):
            assert os.pread(file, PAGE, at) == content[at : at + PAGE]
        assert os.fstat(file).st_size == len(content)


@pytest.mark.parametrize("how", ["write", "truncate", "replace"])
def test_no_reader_sees_an_older_state_than_was_answered(driven, folder, how):
    """Every page begins with the round in which it was written."""
    path = folder / "file"
    path.write_bytes(_state(1))
    answered = 1
    wrong: list[str] = []
    reads = 0

    def read(seed: int, ended: threading.Event) -> None:
        nonlocal reads
        chosen = random.Random(seed)
        while not ended.is_set():
            least = answered
            with opened(path, os.O_RDONLY) as reader:
                os.posix_fadvise(reader, 0, 0, os.POSIX_FADV_RANDOM)
                for _ in range(60):
                    page = chosen.randrange(PAGES)
                    if how != "replace":
                        least = answered
                    (found,) = struct.unpack("<Q", os.pread(reader, 8, page * PAGE) or bytes(8))
                    # Cut off, or not written again yet: nothing, or zeros.
                    if 0 < found < least or (not found and how != "truncate"):
                        wrong.append(f"page {page}: {found} after {least}")
                    reads += 1

    with beside(read, 4):
        enough = time.monotonic() + 3
        while time.monotonic() < enough and not wrong:
            _change(how, path, answered + 1)
            answered += 1
            time.sleep(0.002)  # with nobody writing the readers get whole chunks
    assert not wrong, wrong[:3]
    assert answered > 10
    assert reads > 1000


def _state(number: int) -> bytes:
    return (struct.pack("<Q", number) + bytes(PAGE - 8)) * PAGES


def _change(how: str, path, number: int) -> None:
    if how == "write":
        with opened(path, os.O_RDWR) as file:
            os.pwrite(file, _state(number), 0)
    elif how == "truncate":
        os.truncate(path, 0)
        with opened(path, os.O_WRONLY) as file:
            os.pwrite(file, _state(number), 0)
    else:
        other = path.with_name("other")
        other.write_bytes(_state(number))
        other.replace(path)
