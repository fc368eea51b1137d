"""Requests on /dev/fuse: a kernel is trusted, but a newer one may say what nobody foresaw."""

from __future__ import annotations

import atexit
import functools
import io
import tempfile

from fsdriver import logs
from fsdriver.transport import protocol
from fsdriver.transport.protocol import Opcode
from fsdriver.transport.wire import WireTransport
from tests.filesystem.driver import IN_MEMORY, Driver
from tests.fuzz.engine import Parser
from tests.transport.fakekernel import dispatch

_SILENT = (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT)


@functools.cache
def served() -> tuple[Driver, WireTransport]:
    """One file in a store that is mounted read-only: nothing grows, however long this runs."""
    logs.configure(io.StringIO())
    folder = tempfile.TemporaryDirectory(dir=IN_MEMORY)
    atexit.register(folder.cleanup)
    driver = Driver(folder.name)
    driver.write_file("name", b"content")
    driver.close()
    driver.open(read_only=True)
    return driver, WireTransport(driver.fs, entry_timeout=1, attr_timeout=1)


def request(data: bytes):
    """A whole request, header and all; None where it is refused."""
    driver, transport = served()
    data = data.ljust(protocol.IN_HEADER.size, b"\0")
    _length, opcode, _unique, number, uid, _gid = protocol.IN_HEADER.unpack_from(data)
    answer = dispatch(transport, opcode, number, uid, data[protocol.IN_HEADER.size :])
    for handle in list(driver.fs._handles):
        driver.fs.release(handle)
    transport._requests._released.clear()
    if opcode in _SILENT:
        assert answer is None
        return opcode
    parts = [answer] if isinstance(answer, bytes) else answer
    whole = b"".join(parts or [])
    length, code, unique = protocol.OUT_HEADER.unpack_from(whole)
    assert (length, unique) == (len(whole), 7)
    assert -protocol.LARGEST_ERROR <= code <= 0
    return None if code else whole


PARSERS = [Parser("fuse-request", request, ())]
