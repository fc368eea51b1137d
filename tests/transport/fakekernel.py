"""The other end of /dev/fuse without a mount: a socket that keeps messages apart."""

from __future__ import annotations

import os
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

from fsdriver.transport import protocol
from fsdriver.transport.protocol import InitFlag, Opcode
from fsdriver.transport.wire import WireTransport

if TYPE_CHECKING:
    from fsdriver.filesystem import Filesystem

HEADER = protocol.IN_HEADER.size
DEADLINE = 20.0


def request(opcode: int, body: bytes, *, unique: int = 1, number: int = 1, uid: int = 0) -> bytes:
    """As the kernel sends it; `number` is the inode's."""
    length = HEADER + len(body)
    return protocol.IN_HEADER.pack(length, opcode, unique, number, uid, uid) + body


def init_body(minor: int = 45, flags: int = 0xFFFFFFFF, high: int = 0xFFFFFFFF) -> bytes:
    """What a kernel of this minor version offers; before 7.36 it said less."""
    if minor < 36:
        return struct.pack("=IIII", 7, minor, 131072, flags & ~InitFlag.INIT_EXT)
    return struct.pack("=IIIII44x", 7, minor, 131072, flags, high)


def dispatch(
    transport: WireTransport, opcode: int, number: int, uid: int, body: bytes
) -> bytes | list[bytes | memoryview] | None:
    """What the loop does with one request, but for the answer's way out."""
    handlers = transport._handlers
    try:
        return handlers[opcode if opcode < protocol.OPCODES else 0](
            7, number, memoryview(body), uid, uid
        )
    except Exception as error:  # noqa: BLE001 as the loop's guard does it
        return transport._refuse(7, opcode, number, error)


class FakeKernel:
    """Serves one Filesystem on a thread of its own, as a mount does."""

    def __init__(self, filesystem: Filesystem, **options: Any) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(DEADLINE)
        for one in (self.ours, theirs):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self.transport = WireTransport(filesystem, entry_timeout=1, attr_timeout=1, **options)
        self.transport._device = theirs.detach()
        self._thread = threading.Thread(target=self.transport._run)
        self._thread.start()
        self._unique = 0

    def ask(
        self, opcode: int, body: bytes = b"", *, number: int = 1, uid: int = 0
    ) -> tuple[int, bytes]:
        """(errno or 0, body of the answer)."""
        self._unique += 1
        self.ours.send(request(opcode, body, unique=self._unique, number=number, uid=uid))
        return self.answer(self._unique)

    def answer(self, unique: int) -> tuple[int, bytes]:
        said = self.ours.recv(4 << 20)
        length, code, answered = protocol.OUT_HEADER.unpack_from(said)
        assert (length, answered) == (len(said), unique)
        assert code <= 0
        assert not code or length == protocol.OUT_HEADER.size
        return -code, said[protocol.OUT_HEADER.size :]

    def open(self, number: int, flags: int = os.O_RDONLY) -> int:
        """A handle."""
        code, body = self.ask(Opcode.OPEN, struct.pack("=II", flags, 0), number=number)
        assert not code
        (handle,) = struct.unpack_from("=Q", body)
        return int(handle)

    def release(self, number: int, handle: int) -> None:
        """Close it."""
        body = struct.pack("=QIIQ", handle, 0, 0, 0)
        assert self.ask(Opcode.RELEASE, body, number=number)[0] == 0

    def send(self, opcode: int, body: bytes, *, number: int) -> int:
        """Ask without waiting; the request's number."""
        self._unique += 1
        self.ours.send(request(opcode, body, unique=self._unique, number=number))
        return self._unique

    def say(self, opcode: int, body: bytes, *, number: int = 1) -> None:
        """What has no answer."""
        self.ours.send(request(opcode, body, unique=0, number=number))

    def init(self, minor: int = 45, **offered: int) -> tuple[int, bytes]:
        return self.ask(Opcode.INIT, init_body(minor, **offered))

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """The mount is gone: the loop ends."""
        self.ours.close()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        self.transport._threads.shutdown()
        if self.transport._device >= 0:
            os.close(self.transport._device)
            self.transport._device = -1
