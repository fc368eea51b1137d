"""Files that are written past the kernel's pages: whoever else has them open sees every write."""

from __future__ import annotations

import mmap
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
MIB = 1 << 20
MADE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def test_a_reader_and_a_map_see_what_the_maker_writes(driven, folder):
    path = folder / "file"
    with opened(path, MADE) as maker:
        os.write(maker, b"a" * 3 * PAGE)
        with (
            opened(path, os.O_RDONLY) as reader,
            mmap.mmap(reader, 3 * PAGE, prot=mmap.PROT_READ) as mapped,
        ):
            assert os.pread(reader, 4 * PAGE, 0) == mapped[:] == b"a" * 3 * PAGE
            os.pwrite(maker, b"b" * 100, PAGE - 50)
            expected = b"a" * (PAGE - 50) + b"b" * 100 + b"a" * (2 * PAGE - 50)
            assert os.pread(reader, 4 * PAGE, 0) == mapped[:] == expected
        with opened(path, os.O_RDWR) as other:
            os.pwrite(other, b"c" * 10, 0)
            os.pwrite(maker, b"d" * 5, 5)
            assert os.pread(other, 20, 0) == b"c" * 5 + b"d" * 5 + b"a" * 10
        os.truncate(path, 7)
        os.pwrite(maker, b"e", 9)
        assert path.read_bytes() == b"cccccdd\0\0e"


def test_no_reader_sees_an_older_state_than_was_answered(driven, folder):
    path = folder / "file"
    answered = 0
    wrong: list[str] = []

    def read(_number: int, ended: threading.Event) -> None:
        with opened(path, os.O_RDONLY) as reader:
            while not ended.is_set():
                least = answered
                for page in (0, 1, 5):
                    (found,) = struct.unpack("<Q", os.pread(reader, 8, page * PAGE))
                    if found < least:
                        wrong.append(f"page {page}: {found} after {least}")

    with opened(path, MADE) as maker:
        os.write(maker, bytes(6 * PAGE))
        with beside(read, 3):
            until = time.monotonic() + 2
            while time.monotonic() < until and not wrong:
                value = struct.pack("<Q", answered + 1)
                for page in (0, 1, 5):
                    os.pwrite(maker, value, page * PAGE)
                answered += 1
    assert not wrong, wrong[:3]
    assert answered > 10


@pytest.mark.parametrize("misaligned", [0, 1, 16])
def test_large_writes_from_anywhere_in_memory(driven, folder, misaligned):
    before = driven.status()["durability"]["journal_bytes"]
    content = random.Random(misaligned).randbytes(5 * MIB + 777)
    with mmap.mmap(-1, 2 * MIB) as memory, opened(folder / "file", MADE) as maker:
        for at in range(0, len(content), MIB):
            part = content[at : at + MIB]
            memory[misaligned : misaligned + len(part)] = part
            view = memoryview(memory)[misaligned : misaligned + len(part)]
            assert os.write(maker, view) == len(part)
            view.release()
    assert (folder / "file").read_bytes() == content
    # Cut between chunks: what was written is not written again, through the journal.
    assert driven.status()["durability"]["journal_bytes"] <= before
