"""Answers that a healthy server never gives: a cut connection, silence, a body byte by byte.

Only for faults that a test has switched on (`faults`). Everything here takes the place of a normal
starlette response.
"""

import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_NO_LINGER = struct.pack("ii", 1, 0)


class Silence(Response):
    """Takes the request and never answers; ends when the client goes away."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        while (await receive())["type"] != "http.disconnect":
            pass


class CutConnection(Silence):
    """Drops the connection without a byte of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shut_down_connection(tuple(scope["client"]))
        await super().__call__(scope, receive, send)


def shut_down_connection(client: tuple[str, int]) -> None:
    """Ends the TCP connection whose far end is `client`.

    ASGI gives no hold of the socket, but it is a descriptor of this process: the one whose peer has
    the client's address. Zero lingering makes the later close a reset.
    """
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            descriptor = os.dup(int(entry.name))
            try:
                connection = socket.socket(fileno=descriptor)
            except OSError:
                # Not a socket: the constructor has left the duplicate to its caller.
                os.close(descriptor)
                continue
            with closing(connection):
                if connection.getpeername()[:2] == client:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                    connection.shutdown(socket.SHUT_RDWR)
                    return


async def dribble(body: bytes, seconds_per_byte: float) -> AsyncIterator[bytes]:
    """The body one byte at a time: each read of the client succeeds, the whole takes for ever."""
    for position in range(len(body)):
        await trio.sleep(seconds_per_byte)
        yield body[position : position + 1]
