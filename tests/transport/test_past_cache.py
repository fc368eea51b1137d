"""Writes past the kernel's pages, with the kernel's end held by the test."""

from __future__ import annotations

import errno
import os
import struct
import threading

import pytest

from fsdriver.transport import protocol
from fsdriver.transport.protocol import Opcode
from tests.transport.fakekernel import DEADLINE, FakeKernel

NOTIFY_INODE = struct.Struct("=IiQQqq")


def created(kernel, flags) -> tuple[int, int, int]:
    """(inode number, handle, what the kernel is to do with it)."""
    body = struct.pack("=IIII", flags, 0o100644, 0, 0) + b"file\0"
    code, body = kernel.ask(Opcode.CREATE, body)
    assert not code
    (number,) = struct.unpack_from("=Q", body)
    return number, *struct.unpack_from("=QI", body, 128)


def write_body(handle, offset, data) -> bytes:
    return struct.pack("=QQIIQII", handle, offset, len(data), 0, 0, 0, 0) + data


def test_a_file_that_its_maker_only_writes_goes_past_the_cache(kernel):
    kernel.init()
    _number, _handle, keep = created(kernel, os.O_WRONLY)
    assert keep & protocol.FOPEN_DIRECT_IO


def test_one_that_its_maker_reads_does_not(kernel):
    kernel.init()
    _number, _handle, keep = created(kernel, os.O_RDWR)
    assert not keep & protocol.FOPEN_DIRECT_IO


def test_nor_with_a_kernel_that_does_not_mind_mapped_pages(kernel):
    kernel.init(high=0xFFFFFFFF & ~(1 << 4))
    _number, _handle, keep = created(kernel, os.O_WRONLY)
    assert not keep & protocol.FOPEN_DIRECT_IO


def test_nor_where_the_kernel_gathers_writes(driver):
    kernel = FakeKernel(driver.fs, writeback=True)
    kernel.init()
    _number, _handle, keep = created(kernel, os.O_WRONLY)
    assert not keep & protocol.FOPEN_DIRECT_IO
    kernel.close()


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_WRONLY])
def test_what_others_may_hold_is_forgotten_before_the_answer(kernel, flags):
    kernel.init()
    number, handle, _keep = created(kernel, os.O_WRONLY)
    assert kernel.ask(Opcode.WRITE, write_body(handle, 0, b"a" * 9000), number=number)[0] == 0
    other = kernel.open(number, flags)
    for closed in (False, True):
        if closed:  # its pages stay
            kernel.release(number, other)
        unique = kernel.send(Opcode.WRITE, write_body(handle, 5000, b"new"), number=number)
        said = NOTIFY_INODE.unpack(kernel.ours.recv(4096))
        assert said == (40, protocol.NOTIFY_INVAL_INODE, 0, number, 5000, 3)
        assert kernel.answer(unique) == (0, struct.pack("=II", 3, 0))
    kernel.release(number, handle)
    again = kernel.open(number, os.O_WRONLY)
    # A handle of the usual kind: the kernel changes its pages itself.
    assert kernel.ask(Opcode.WRITE, write_body(again, 0, b"b"), number=number)[0] == 0
    assert not kernel.transport._requests.past_cache.seen


def test_what_a_mapped_page_holds_is_answered_at_once(kernel):
    """The kernel writes it by any handle, and keeps the page locked until it is answered."""
    kernel.init()
    number, handle, _keep = created(kernel, os.O_WRONLY)
    kernel.open(number, os.O_RDWR)
    body = bytearray(write_body(handle, 0, b"mapped"))
    struct.pack_into("=I", body, 20, protocol.WRITE_CACHE)
    assert kernel.ask(Opcode.WRITE, bytes(body), number=number) == (0, struct.pack("=II", 6, 0))


def test_a_mount_that_ends_answers_what_a_page_waits_for(kernel, monkeypatch):
    kernel.init()
    number, handle, _keep = created(kernel, os.O_WRONLY)
    other = kernel.open(number, os.O_RDONLY)
    begun, ended = threading.Event(), threading.Event()

    def forget(*_place: int) -> None:
        begun.set()
        assert ended.wait(DEADLINE)

    monkeypatch.setattr(kernel.transport, "_forget_pages", forget)
    unique = kernel.send(Opcode.WRITE, write_body(handle, 0, b"a"), number=number)
    assert begun.wait(DEADLINE)
    kernel.transport._halt()
    read = struct.pack("=QQIIQII", other, 0, 4096, 0, 0, 0, 0)
    assert kernel.ask(Opcode.READ, read, number=number) == (errno.EIO, b"")
    ended.set()
    assert kernel.answer(unique) == (0, struct.pack("=II", 1, 0))


def test_a_write_that_fails_says_so_at_once(kernel):
    kernel.init()
    number, handle, _keep = created(kernel, os.O_WRONLY)
    kernel.open(number, os.O_RDONLY)
    code, _body = kernel.ask(Opcode.WRITE, write_body(handle, (1 << 63) - 1, b"ab"), number=number)
    assert code
