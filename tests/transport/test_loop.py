"""The loop, the workers and the ends of a mount, with the kernel's end held by the test."""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from contextlib import suppress

from fsdriver.changes import Changes
from fsdriver.errors import ChunkInvalid, KeyUnavailable
from fsdriver.namespace import Caller
from fsdriver.transport import attachment, protocol
from fsdriver.transport.protocol import InitFlag, Opcode
from fsdriver.transport.requests import Timeouts
from keyhierarchy.errors import RootKeyRefused
from tests.transport.fakekernel import DEADLINE, FakeKernel, request

ROOT = Caller(0, 0)
CREATE = struct.pack("=IIII", os.O_RDWR, 0o100644, 0, 0)


def until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def created(kernel, name=b"file") -> tuple[int, int]:
    """(inode number, handle)."""
    code, body = kernel.ask(Opcode.CREATE, CREATE + name + b"\0")
    assert not code
    return struct.unpack_from("=Q", body)[0], struct.unpack_from("=Q", body, 128)[0]


# The first request


def test_what_is_agreed_with_a_kernel(kernel):
    for minor in (31, 35, 36, 38, 45):
        code, body = kernel.init(minor)
        assert not code
        out = protocol._INIT_OUT.unpack(body)
        assert out[:2] == (7, min(minor, protocol.MINOR))
        flags = out[3] | out[10] << 32
        assert flags & InitFlag.HANDLE_KILLPRIV_V2
        assert not flags & InitFlag.WRITEBACK_CACHE
        assert bool(flags >> 32) == (minor >= 36)
        assert flags & ~sum(InitFlag) == 0
        assert kernel.transport._requests.no_flush == protocol.FOPEN_NOFLUSH


def test_nothing_is_agreed_that_was_not_offered(kernel):
    _code, body = kernel.init(45, flags=int(InitFlag.ASYNC_READ), high=0)
    out = protocol._INIT_OUT.unpack(body)
    assert out[3] | out[10] << 32 == InitFlag.ASYNC_READ


def test_write_back_is_for_who_asks(driver):
    kernel = FakeKernel(driver.fs, writeback=True)
    _code, body = kernel.init()
    assert protocol._INIT_OUT.unpack(body)[3] & InitFlag.WRITEBACK_CACHE
    assert not kernel.transport._requests.no_flush, "what the kernel gathered is flushed at close"
    kernel.close()


def test_a_kernel_of_another_protocol_is_refused(kernel):
    for version in ((6, 45), (8, 0), (7, 30)):
        code, _body = kernel.ask(Opcode.INIT, struct.pack("=IIII48x", *version, 0, 0))
        assert code == errno.EPROTO


# Errors


RAISED = [
    (OSError(errno.ENOSPC, ""), errno.ENOSPC),
    (OSError(100_000, ""), errno.EIO),
    (OSError(-5, ""), errno.EIO),
    (OSError("no number"), errno.EIO),
    (ChunkInvalid(1, ""), errno.EIO),
    (RuntimeError(), errno.EIO),
    (MemoryError(), errno.EIO),
    (RecursionError(), errno.EIO),
]


def test_whatever_is_raised_is_answered(kernel, driver, monkeypatch):
    for error, code in RAISED:

        def fails(_number, error=error):
            raise error

        monkeypatch.setattr(driver.fs, "getattr", fails)
        assert kernel.ask(Opcode.GETATTR, bytes(16)) == (code, b"")
    assert kernel.alive


def test_a_log_that_cannot_be_written_ends_nothing(kernel, driver, monkeypatch):
    def full(_error, _number=0):
        raise OSError(errno.ENOSPC, "the log's disk is full")

    monkeypatch.setattr(driver.fs, "errno_of", full)
    assert kernel.ask(Opcode.UNLINK, b"absent\0") == (errno.EIO, b"")
    assert kernel.ask(Opcode.GETATTR, bytes(16))[0] == 0


def test_work_ahead_that_fails_ends_nothing(kernel, driver, monkeypatch):
    errors = [OSError(errno.ENODEV, ""), OSError(errno.EBADF, ""), KeyError(), KeyUnavailable("")]

    def fails():
        if errors:
            raise errors.pop()
        return False

    monkeypatch.setattr(driver.fs, "idle", fails)

    def answers():
        assert kernel.ask(Opcode.GETATTR, bytes(16))[0] == 0
        return not errors

    until(answers)
    assert kernel.ask(Opcode.GETATTR, bytes(16))[0] == 0


def test_an_answer_that_the_kernel_does_not_take_is_an_error_at_least(kernel, monkeypatch):
    real, refused = os.write, []

    def write(descriptor, data):
        if descriptor == kernel.transport._device and not refused:
            refused.append(data)
            raise OSError(errno.EINVAL, "")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    assert kernel.ask(Opcode.GETATTR, bytes(16)) == (errno.EIO, b"")
    assert refused


def test_unknown_requests_are_refused_for_good(kernel):
    for opcode in (Opcode.ACCESS, Opcode.POLL, Opcode.BMAP, 31, 49, 53, 63, 64, 4096, 2**32 - 1):
        assert kernel.ask(opcode, bytes(64)) == (errno.ENOSYS, b"")
    assert kernel.ask(Opcode.IOCTL, bytes(32)) == (errno.ENOTTY, b"")


# What is counted


def test_lookups_are_counted_and_forgotten(kernel, driver):
    number, handle = created(kernel)
    inodes = driver.tree.inodes
    for _time in range(3):
        assert kernel.ask(Opcode.LOOKUP, b"file\0")[0] == 0
    assert inodes.get(number).lookups == 4
    kernel.ask(Opcode.RELEASE, struct.pack("=QQQ", handle, 0, 0), number=number)
    kernel.say(Opcode.FORGET, struct.pack("=Q", 3), number=number)
    kernel.ask(Opcode.GETATTR, bytes(16))
    assert inodes.get(number).lookups == 1
    many = [(12345, 1), (number, 1), (1, 99)]
    body = struct.pack("=I4x", len(many)) + b"".join(struct.pack("=QQ", *one) for one in many)
    kernel.say(Opcode.BATCH_FORGET, body)
    kernel.ask(Opcode.GETATTR, bytes(16))
    until(lambda: inodes.get(number) is None)
    assert inodes.get(1) is inodes.root


def test_one_forget_that_fails_keeps_no_other(kernel, driver, monkeypatch):
    numbers = [created(kernel, name)[0] for name in (b"one", b"two")]
    real = driver.fs.forget

    def forget(number, count):
        if number == numbers[0]:
            raise OSError(errno.EIO, "")
        real(number, count)

    monkeypatch.setattr(driver.fs, "forget", forget)
    body = struct.pack("=I4x", 2) + b"".join(struct.pack("=QQ", one, 1) for one in numbers)
    kernel.say(Opcode.BATCH_FORGET, body)
    kernel.ask(Opcode.GETATTR, bytes(16))
    assert driver.tree.inodes.get(numbers[1]).lookups == 0


def listed(kernel, handle, start=0, room=4096, opcode=Opcode.READDIRPLUS):
    body = struct.pack("=QQIIQII", handle, start, room, 0, 0, 0, 0)
    return kernel.ask(opcode, body)


def entries(body):
    """(name, counted) of an answer to READDIRPLUS, and where the next one begins."""
    found, at, following = {}, 0, 0
    while at < len(body):
        values = protocol._DIRENTPLUS.unpack_from(body, at)
        following, length = values[-3], values[-2]
        at += protocol._DIRENTPLUS.size
        found[body[at : at + length]] = values[0]
        at += -(-length // 8) * 8
    assert at == len(body)
    return found, following


def test_a_listing_counts_what_it_passes_on_and_no_more(kernel, driver):
    for number in range(60):
        driver.write_file(f"file-{number:02}", b"x")
    code, body = kernel.ask(Opcode.OPENDIR, bytes(8))
    (handle,) = struct.unpack_from("=Q", body)
    before = {inode.number: inode.lookups for inode in driver.tree.inodes.all()}
    seen, start = {}, 0
    while True:
        code, body = listed(kernel, handle, start)
        assert not code
        assert len(body) <= 4096
        if not body:
            break
        part, start = entries(body)
        assert not part.keys() & seen.keys()
        seen |= part
    assert len(seen) == 62
    assert seen[b"."] == seen[b".."] == 0
    for inode in driver.tree.inodes.all():
        more = list(seen.values()).count(inode.number)
        assert inode.lookups == before.get(inode.number, 0) + more


def test_a_listing_that_fails_half_way_gives_what_it_has_counted(kernel, driver, monkeypatch):
    for number in range(9):
        driver.write_file(f"file-{number}", b"x")
    _code, body = kernel.ask(Opcode.OPENDIR, bytes(8))
    (handle,) = struct.unpack_from("=Q", body)
    before = {one.number: one.lookups for one in driver.tree.inodes.all()}
    real, asked = driver.backing.stat, []

    def stat(folder, text):
        asked.append(text)
        if len(asked) > 4:
            raise OSError(errno.EIO, "")
        return real(folder, text)

    def all_of(*_arguments):
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(driver.backing, "stat", stat)
    monkeypatch.setattr("fsdriver.listing._why_not", all_of)
    code, body = listed(kernel, handle)
    assert not code
    part, start = entries(body)
    assert len(part) == 6
    for number in part.values():
        expected = before.get(number, 0) + 1
        assert not number or driver.tree.inodes.get(number).lookups == expected
    assert listed(kernel, handle, start) == (errno.EIO, b"")


def test_a_revoked_key_ends_a_listing_that_was_begun(kernel, driver):
    """Its names are decrypted already, but nobody may have them any more (promise 7)."""
    for number in range(200):
        driver.write_file(f"secret-{number:03}", b"x")
    folder = driver.tree.inodes.root.folder
    _code, body = kernel.ask(Opcode.OPENDIR, bytes(8))
    (handle,) = struct.unpack_from("=Q", body)
    code, body = listed(kernel, handle, opcode=Opcode.READDIR)
    assert not code
    assert b"secret-" in body
    with kernel.transport.exclusive():
        folder.site.lease.end(RootKeyRefused("revoked"))
        driver.fs.lock_site(folder.site.lease.site_id)
    for opcode in (Opcode.READDIR, Opcode.READDIRPLUS):
        code, body = listed(kernel, handle, 20, opcode=opcode)
        assert code
        assert b"secret" not in body


def test_a_revoked_key_takes_every_name_out_of_the_kernels_memory(kernel, driver):
    """Those of further links, too."""
    driver.write_file("first", b"x")
    number = driver.number("first")
    with kernel.transport.exclusive():
        driver.fs.link(number, 1, b"second")
        known = driver.fs.lock_site(driver.tree.inodes.root.folder.site.lease.site_id)
    assert {(number, 1, b"first"), (number, 1, b"second")} <= set(known)
    kernel.transport.drop_caches(known)
    said = [kernel.ours.recv(4096) for _one in range(2 * len(known) - 1)]
    assert protocol.inval_inode(1) in said
    for name in (b"first", b"second"):
        assert protocol.inval_entry(1, name) in said


# Between two requests


def test_who_waits_for_a_moment_gets_it_under_load(kernel):
    """The loop is back at its lock before anybody else wakes up."""
    ended = threading.Event()

    def hammer():
        while not ended.is_set():
            kernel.ask(Opcode.GETATTR, bytes(16))

    client = threading.Thread(target=hammer)
    client.start()
    waits = []
    try:
        for _time in range(200):
            began = time.monotonic()
            with kernel.transport.exclusive():
                waits.append(time.monotonic() - began)
    finally:
        ended.set()
        client.join()
    assert sorted(waits)[len(waits) // 2] < 0.05
    assert max(waits) < 2


def test_only_one_at_a_time_even_after_the_end(kernel):
    kernel.transport._halt()
    inside, most = [], []

    def work():
        for _time in range(50):
            with kernel.transport.exclusive():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert max(most) == 1


# What waits


def fsync(handle):
    return struct.pack("=QII", handle, 0, 0)


def test_a_slow_sync_keeps_nobody_else_waiting(kernel, driver, monkeypatch):
    number, handle = created(kernel)
    go = threading.Event()
    monkeypatch.setattr(driver.fs, "begin_fsync", lambda *_one, **_two: lambda: go.wait(DEADLINE))
    kernel.transport._usual_wait = 1.0
    kernel.ours.send(request(Opcode.FSYNC, fsync(handle), unique=1000, number=number))
    assert kernel.ask(Opcode.GETATTR, bytes(16))[0] == 0
    go.set()
    assert kernel.answer(1000) == (0, b"")


def test_a_sync_that_fails_elsewhere_is_told_with_its_file(kernel, driver, monkeypatch):
    number, handle = created(kernel)
    told = []
    real = driver.fs.errno_of
    monkeypatch.setattr(
        driver.fs, "errno_of", lambda error, number=0: told.append(number) or real(error, number)
    )

    def fails():
        raise OSError(errno.EDQUOT, "")

    monkeypatch.setattr(driver.fs, "begin_fsync", lambda *_one, **_two: fails)
    kernel.transport._usual_wait = 1.0
    assert kernel.ask(Opcode.FSYNC, fsync(handle), number=number) == (errno.EDQUOT, b"")
    assert told == [number]


class Crowded:
    """A checkpoint that never gets on."""

    crowded = True


def test_writes_that_are_held_back_are_answered_when_the_mount_ends(driver):
    kernel = FakeKernel(driver.fs)
    number, handle = created(kernel)
    kept, driver.fs.checkpoints = driver.fs.checkpoints, Crowded()
    body = struct.pack("=QQIIQII", handle, 0, 4, 0, 0, 0, 0) + b"data"
    kernel.ours.send(request(Opcode.WRITE, body, unique=1000, number=number))
    assert kernel.ask(Opcode.GETATTR, bytes(16))[0] == 0
    kernel.close()  # and waits for the workers
    driver.fs.checkpoints = kept
    assert driver.read_file("file") == b"data"


def test_the_loop_ends_when_told_and_nothing_is_read_from_another_file(driver, tmp_path):
    kernel = FakeKernel(driver.fs)
    kernel.ask(Opcode.GETATTR, bytes(16))
    device = kernel.transport._device
    kernel.transport._halt()
    attachment.let_go(device)
    # Nobody holds the other end any more, once the loop is out of its read.
    with suppress(OSError):
        kernel.ours.send(b"x" * 100)
    kernel._thread.join(DEADLINE)
    assert not kernel.alive
    assert os.read(device, 10) == b""
    assert not os.get_inheritable(device)
    kernel.close()


# Set-id bits


def test_an_allocation_by_another_user_takes_set_id_bits(kernel, driver):
    number, handle = created(kernel)
    told = []
    driver.fs.set_ids_dropped = told.append
    for uid, left in ((0, 0o6755), (1000, 0o755)):
        driver.fs.setattr(number, Changes(mode=0o6755))
        body = struct.pack("=QQQII", handle, 0, 100, 0, 0)
        assert kernel.ask(Opcode.FALLOCATE, body, number=number, uid=uid)[0] == 0
        assert driver.fs.getattr(number).mode & 0o7777 == left
    assert told == [number]


def test_a_copy_by_another_user_takes_set_id_bits(kernel, driver):
    source, reading = created(kernel, b"source")
    target, writing = created(kernel, b"target")
    driver.fs.write(reading, 0, b"content")
    driver.fs.setattr(target, Changes(mode=0o4755))
    told = []
    driver.fs.set_ids_dropped = told.append
    body = struct.pack("=QQQQQQQ", reading, 0, target, writing, 0, 7, 0)
    assert kernel.ask(Opcode.COPY_FILE_RANGE, body, number=source, uid=1000)[0] == 0
    assert driver.fs.getattr(target).mode & 0o7777 == 0o755
    assert told == [target]


# Values


def test_times_come_back_to_the_nanosecond(kernel, driver):
    """Before 1970, beyond 2038 and 2106."""
    number, _handle = created(kernel)
    for seconds in (-(1 << 31), -1, 0, (1 << 31) + 5, (1 << 32) + 7, 1 << 33):
        check_times(kernel, driver, number, seconds)


def check_times(kernel, driver, number, seconds):
    wanted = protocol.FATTR_ATIME | protocol.FATTR_MTIME
    body = struct.pack(
        "=IIQQQQQQIIIIIIII", wanted, 0, 0, 0, 0, seconds & protocol._U64,
        seconds & protocol._U64, 0, 123_456_789, 999_999_999, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip
    code, answer = kernel.ask(Opcode.SETATTR, body, number=number)
    assert not code
    values = protocol._ATTR.unpack(bytes(16) + answer)[5:]
    signed = [value - (1 << 64) if value >> 63 else value for value in values[3:5]]
    assert signed == [seconds, seconds]
    assert values[6:8] == (123_456_789, 999_999_999)
    assert driver.fs.getattr(number).mtime_ns == seconds * 10**9 + 999_999_999
    answer = protocol.statx(1, driver.fs.getattr(number), (0, 0), None)
    assert struct.pack("=qI", seconds, 123_456_789) in answer


def test_reads_of_nothing_and_names_that_are_too_long(kernel):
    number, handle = created(kernel)
    for offset in (0, 1 << 40, (1 << 63) - 1):
        body = struct.pack("=QQIIQII", handle, offset, 0, 0, 0, 0, 0)
        assert kernel.ask(Opcode.READ, body, number=number) == (0, b"")
    for name in (b"n" * 256, b"n" * 1024):
        assert kernel.ask(Opcode.LOOKUP, name + b"\0")[0] == errno.ENAMETOOLONG
        assert kernel.ask(Opcode.CREATE, CREATE + name + b"\0")[0] == errno.ENAMETOOLONG
    name = bytes(sorted(set(range(1, 256)) - {0x2F}))
    assert kernel.ask(Opcode.CREATE, CREATE + name + b"\0")[0] == 0
    assert kernel.ask(Opcode.LOOKUP, name + b"\0")[0] == 0


def test_a_name_that_is_absent_is_said_so_for_the_kernel_to_remember(kernel):
    code, body = kernel.ask(Opcode.LOOKUP, b"absent\0")
    assert not code
    assert struct.unpack_from("=QQQ", body) == (0, 0, 1)


def test_dots_by_number(kernel, driver):
    """Who comes by a file handle asks for them (FUSE_EXPORT_SUPPORT)."""
    folder = driver.mkdir("folder")
    for name, found in ((b".", folder), (b"..", 1)):
        code, body = kernel.ask(Opcode.LOOKUP, name + b"\0", number=folder)
        assert not code
        assert struct.unpack_from("=Q", body)[0] == found
    assert kernel.ask(Opcode.LOOKUP, b".\0", number=999_999)[0] == errno.ESTALE


def test_timeouts_are_said_as_they_are():
    assert protocol.valid_for(0) == (0, 0)
    assert protocol.valid_for(1.25) == (1, 250_000_000)
    assert Timeouts(protocol.valid_for(1e9), (0, 0)).entry == (10**9, 0)
