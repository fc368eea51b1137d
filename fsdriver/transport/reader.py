"""How the wire transport waits for the kernel's next request, into one buffer for all of them.

Waking a thread that sleeps takes a machine longer than most requests take the driver. So while
requests follow each other closely, the reader asks again for some microseconds before it sleeps.
It learns from what came of it: on an idle mount, and where somebody else needs the processor, it
sleeps at once. And while they follow each other, it keeps the processors of those who ask awake.
"""

import errno
import os
import select
import time
from collections.abc import Callable
from typing import Final

from fsdriver.transport.wakefulness import Wakefulness

_SPIN_NS: Final = 40_000
_CLOSE_NS: Final = 120_000
"""A request that comes within this after the last one follows it closely."""
_TRUST: Final = 8
"""How many times in a row spinning may be in vain, at half a point each."""
_NEAR_NS: Final = 1_000_000
_NEAR_ENOUGH: Final = 8
"""So many requests in a row, each so soon after the one before: processors are kept awake."""
_QUIET_MS: Final = 3
"""Without a request for so long, they may sleep."""
_GONE: Final = frozenset((errno.ENODEV, errno.ECONNABORTED, errno.EBADF, errno.EPERM, errno.EINVAL))
"""What stays so: no mount any more, or none yet, or a buffer that no request may be read into."""


class Reader:
    """Of one descriptor of /dev/fuse, which blocks.

    `idle` is called as long as nobody asks for anything, until it says that nothing is left to do;
    it raises nothing.
    """

    def __init__(
        self, device: int, size: int, idle: Callable[[], bool], wakefulness: Wakefulness
    ) -> None:
        self.buffer = bytearray(size)
        self._idle = idle
        self._device = device
        self._vector = [self.buffer]
        poll = select.poll()
        poll.register(device, select.POLLIN)
        self._poll = poll.poll
        self._credit = 0
        self._near = 0
        self._wakefulness = wakefulness

    def next(self) -> int:
        """Bytes of the next request, now in `buffer`; 0 when the mount is gone."""
        while True:
            try:
                poll = self._poll
                while not poll(0) and self._idle():
                    pass
                if self._credit > 0:
                    if self._spin():
                        self._learn(0)
                        return os.readv(self._device, self._vector)
                    self._credit -= 2
                began = time.monotonic_ns()
                if self._wakefulness.held and not poll(_QUIET_MS):
                    self._wakefulness.release()
                length = os.readv(self._device, self._vector)
                self._learn(time.monotonic_ns() - began)
            except OSError as error:
                if error.errno in _GONE:
                    return 0
                # The request was taken back before it could be read, or the kernel has refused it.
            else:
                return length

    def _learn(self, waited: int) -> None:
        """From how many ns it took until there was a request."""
        if waited < _CLOSE_NS and self._credit < _TRUST:
            self._credit += 1
        if waited >= _NEAR_NS:
            self._near = 0
            return
        self._near += 1
        if self._near >= _NEAR_ENOUGH and not self._wakefulness.held:
            self._wakefulness.hold()

    def _spin(self) -> bool:
        """Whether there is a request soon."""
        poll = self._poll
        if poll(0):
            return True
        until = time.monotonic_ns() + _SPIN_NS
        while time.monotonic_ns() < until:
            if poll(0):
                return True
        return False
