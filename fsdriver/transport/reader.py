"""How the wire transport waits for the kernel's next request, into one buffer for all of them.

Waking a thread that sleeps takes a machine longer than most requests take the driver. So while
requests follow each other closely, the reader asks again for some microseconds before it sleeps.
It learns from what came of it: on an idle mount, and where somebody else needs the processor, it
sleeps at once.
"""

import errno
import os
import select
import time
from typing import Final

_SPIN_NS: Final = 40_000
_CLOSE_NS: Final = 120_000
"""A request that comes within this after the last one follows it closely."""
_TRUST: Final = 8
"""How many times in a row spinning may be in vain, at half a point each."""
_GONE: Final = frozenset((errno.ENODEV, errno.EBADF, errno.ECONNABORTED))


class Reader:
    """Of one descriptor of /dev/fuse that does not block. `wake` is an eventfd that ends it."""

    def __init__(self, device: int, wake: int, size: int) -> None:
        self.buffer = bytearray(size)
        self._device = device
        self._vector = [self.buffer]
        self._poll = select.poll()
        self._poll.register(device, select.POLLIN)
        self._poll.register(wake, select.POLLIN)
        self._wake = wake
        self._credit = 0

    def next(self) -> int:
        """Bytes of the next request, now in `buffer`; 0 when the mount is gone or `wake` is set."""
        while True:
            try:
                return os.readv(self._device, self._vector)
            except BlockingIOError:
                length = self._spin() if self._credit > 0 else 0
                if length:
                    return length
                if not self._sleep():
                    return 0
            except OSError as error:
                if error.errno in _GONE:
                    return 0
                # The request was taken back before it could be read.

    def _spin(self) -> int:
        """Bytes of a request that came soon; 0 if none did."""
        readv, device, vector = os.readv, self._device, self._vector
        until = time.monotonic_ns() + _SPIN_NS
        while time.monotonic_ns() < until:
            try:
                length = readv(device, vector)
            except BlockingIOError:
                continue
            except OSError:
                return 0  # `next` finds out
            self._credit = min(self._credit + 1, _TRUST)
            return length
        self._credit -= 2
        return 0

    def _sleep(self) -> bool:
        """Until there is something to read; false when there is to be no more."""
        began = time.monotonic_ns()
        ready = self._poll.poll()
        if time.monotonic_ns() - began < _CLOSE_NS:
            self._credit = min(self._credit + 1, _TRUST)
        return all(descriptor != self._wake for descriptor, _event in ready)
