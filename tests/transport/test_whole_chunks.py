"""Whole chunks for the kernel's pages, with the kernel's end held by the test."""

from __future__ import annotations

import errno
import os
import random
import struct
import tempfile
import threading
from typing import TYPE_CHECKING

import pytest
from driver import IN_MEMORY, Driver

from fsdriver.namespace import Caller
from fsdriver.transport import protocol
from fsdriver.transport.protocol import Opcode
from tests.transport.fakekernel import DEADLINE, FakeKernel

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 1 << 16
STORE = struct.Struct("=IiQQQII")
PAGE = 4096
CONTENT = random.Random(5).randbytes(2 * CHUNK + 5000)


@pytest.fixture
def driver() -> Iterator[Driver]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        made = Driver(folder, chunk_size=CHUNK)
        yield made
        made.close()


@pytest.fixture
def file(driver) -> int:
    """The number of a file that the kernel knows and nobody has open."""
    made, handle = driver.fs.create(1, b"file", 0o644, os.O_WRONLY, Caller(0, 0))
    driver.fs.write(handle, 0, CONTENT)
    driver.fs.release(handle)
    return made.number


def read(kernel, number, handle, offset, length=PAGE, flags=0) -> int:
    """Ask without waiting; the request's unique."""
    body = struct.pack("=QQIIQII", handle, offset, length, 0, 0, flags, 0)
    return kernel.send(Opcode.READ, body, number=number)


def heard(kernel, count) -> tuple[dict[int, bytes], list[tuple[int, int, bytes]]]:
    """Of the next messages: answers by unique, and what was handed over."""
    answers, stored = {}, []
    for _ in range(count):
        said = kernel.ours.recv(4 << 20)
        length, code, unique = protocol.OUT_HEADER.unpack_from(said)
        assert length == len(said)
        if unique:
            assert not code
            answers[unique] = said[protocol.OUT_HEADER.size :]
            continue
        assert code == protocol.NOTIFY_STORE
        _, _, _, number, offset, size, _ = STORE.unpack_from(said)
        content = said[STORE.size :]
        assert size == len(content)
        stored.append((number, offset, content))
    return answers, stored


def parts(kernel, number, handle, *offsets):
    """Each is read, and nothing but its answer comes."""
    for offset in offsets:
        unique = read(kernel, number, handle, offset)
        assert kernel.answer(unique) == (0, CONTENT[offset : offset + PAGE])


SOME = (3 * PAGE, PAGE, CHUNK + PAGE, 2 * PAGE, CHUNK + 5 * PAGE)
"""Parts out of order, one less than it takes."""


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_whole_chunks_come_once_enough_was_asked_for(kernel, file, chunk):
    kernel.init()
    handle = kernel.open(file)
    start = chunk * CHUNK
    end = min(start + CHUNK, len(CONTENT))
    parts(kernel, file, handle, *SOME)
    for at in (start, start + PAGE * (chunk != 2)):
        unique = read(kernel, file, handle, at)
        answers, stored = heard(kernel, 2)
        assert answers == {unique: CONTENT[at : at + PAGE]}
        assert stored == [(file, start, CONTENT[start:end])]
        read(kernel, file, handle, CHUNK + 9 * PAGE)
        heard(kernel, 2)


def test_who_reads_in_order_gets_what_was_asked_for(kernel, file):
    kernel.init()
    handle = kernel.open(file)
    parts(kernel, file, handle, *range(0, 2 * CHUNK, PAGE))


def test_who_goes_past_the_cache_does_too(kernel, file):
    kernel.init()
    handle = kernel.open(file)
    for offset in (*SOME, 0, *SOME):
        unique = read(kernel, file, handle, offset, flags=os.O_DIRECT)
        assert kernel.answer(unique) == (0, CONTENT[offset : offset + PAGE])


def test_nothing_where_the_kernel_gathers_writes(driver, file):
    kernel = FakeKernel(driver.fs, writeback=True)
    kernel.init()
    handle = kernel.open(file)
    parts(kernel, file, handle, *SOME, 0, *SOME)
    kernel.close()


def test_nothing_while_somebody_may_write(kernel, file):
    kernel.init()
    handle = kernel.open(file)
    other = kernel.open(file, os.O_RDWR)
    parts(kernel, file, handle, *SOME, 0, *SOME)
    kernel.release(file, other)
    kernel.open(file)  # what was closed before is closed by now
    read(kernel, file, handle, PAGE)
    assert heard(kernel, 2)[1] == [(file, 0, CONTENT[:CHUNK])]


class Held:
    """What is handed over stays under way until it is let go."""

    def __init__(self, kernel, monkeypatch) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()
        self.given: list[tuple[int, int, int]] = []

        def store(number: int, offset: int, content: bytes) -> None:
            self.given.append((number, offset, len(content)))
            self.begun.set()
            assert self.let_go.wait(DEADLINE)

        monkeypatch.setattr(kernel.transport._whole_chunks, "_store", store)


@pytest.fixture
def held(kernel, file, monkeypatch) -> Iterator[tuple[Held, int]]:
    """Chunk 0 is under way, chunk 1 waits; and a reader's handle."""
    kernel.init()
    made = Held(kernel, monkeypatch)
    handle = kernel.open(file)
    parts(kernel, file, handle, *SOME)
    for offset in (0, CHUNK):
        parts(kernel, file, handle, offset)
        assert made.begun.wait(DEADLINE)
    yield made, handle
    made.let_go.set()


SIZE = struct.pack("=I4xQQ8xQQQIIII4xII4x", protocol.FATTR_SIZE, 0, 100, *(0,) * 9)


@pytest.mark.parametrize(
    ("opcode", "body"),
    [
        (Opcode.OPEN, struct.pack("=II", os.O_WRONLY, 0)),
        (Opcode.OPEN, struct.pack("=II", os.O_RDONLY | os.O_TRUNC, 0)),
        (Opcode.SETATTR, SIZE),
    ],
    ids=["writing", "truncating", "size"],
)
def test_who_may_change_it_waits_for_what_is_under_way(kernel, file, held, opcode, body):
    holding, handle = held
    waiting = kernel.send(opcode, body, number=file)
    # Others are served meanwhile, and also readers of the same file.
    asked = read(kernel, file, handle, 0 if body == SIZE else 2 * CHUNK, 50)
    answers, _stored = heard(kernel, 1)
    assert list(answers) == [asked]
    holding.let_go.set()
    answers, _stored = heard(kernel, 1)
    assert list(answers) == [waiting]
    assert (file, CHUNK, CHUNK) not in holding.given  # what waited is not handed over


def test_a_number_is_kept_until_what_is_under_way_has_arrived(kernel, driver, file, held):
    holding, handle = held
    kernel.release(file, handle)
    kernel.say(Opcode.FORGET, struct.pack("=Q", 1), number=file)
    kernel.ask(Opcode.STATFS)
    assert driver.fs._tree.inodes.get(file) is not None
    holding.let_go.set()
    for _ in range(10_000):
        kernel.ask(Opcode.STATFS)
        if driver.fs._tree.inodes.get(file) is None:
            break
    assert driver.fs._tree.inodes.get(file) is None


def test_what_the_kernel_is_to_forget_comes_after_it(kernel, file, held):
    holding, _handle = held
    dropping = threading.Thread(target=kernel.transport.drop_caches, args=([(file, 1, b"file")],))
    dropping.start()
    kernel.ask(Opcode.STATFS)
    assert dropping.is_alive()
    holding.let_go.set()
    dropping.join(DEADLINE)
    assert holding.given == [(file, 0, CHUNK)]
    codes = [protocol.OUT_HEADER.unpack_from(kernel.ours.recv(4096))[1] for _ in range(2)]
    assert codes == [protocol.NOTIFY_INVAL_INODE, protocol.NOTIFY_INVAL_ENTRY]


def test_a_mount_that_ends_answers_what_a_page_waits_for(kernel, file, held):
    holding, handle = held
    kernel.transport._halt()
    body = struct.pack("=QQIIQII", handle, 0, PAGE, 0, 0, 0, 0)
    assert kernel.ask(Opcode.READ, body, number=file) == (errno.EIO, b"")
    holding.let_go.set()
    kernel.transport._whole_chunks.close(DEADLINE)
    assert not kernel.transport._whole_chunks.busy
    assert holding.given == [(file, 0, CHUNK)]
