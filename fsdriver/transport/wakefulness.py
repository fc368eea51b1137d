"""Keeps the processors from sleeping while requests follow each other: a request for latency 0.

Whoever asks something sleeps until it is answered, and its processor with it if it has nothing else
to do. To wake a processor takes longer than most requests take the driver; on a virtual machine,
some hundred microseconds. While the kernel is asked for a latency of 0 (Linux,
Documentation/power/pm_qos_interface.rst), processors with nothing to do poll for work instead. That
takes power, and on a virtual machine the host's time: so it is asked for while requests come one
after the other, and taken back some milliseconds after the last one, or by another thread where a
request takes long itself. It takes root.
"""

import os
import threading
from contextlib import suppress
from typing import Final

_DEVICE: Final = "/dev/cpu_dma_latency"
_NONE: Final = (0).to_bytes(4, "little")
_ANY: Final = (-1).to_bytes(4, "little", signed=True)


class Wakefulness:
    """Of one mount. Where the system grants nothing, nothing happens."""

    __slots__ = ("_descriptor", "_lock", "held")

    def __init__(self, *, asked: bool) -> None:
        """Not `asked`: processors sleep when they like."""
        self._descriptor = -1
        self._lock = threading.Lock()
        self.held = False
        if asked:
            with suppress(OSError):
                self._descriptor = os.open(_DEVICE, os.O_WRONLY | os.O_CLOEXEC)

    def hold(self) -> None:
        """From now on."""
        with self._lock:
            self.held = self._ask(_NONE)

    def release(self) -> None:
        """From now on they may sleep."""
        with self._lock:
            self.held = False
            self._ask(_ANY)

    def _ask(self, latency: bytes) -> bool:
        if self._descriptor < 0:
            return False
        try:
            return os.write(self._descriptor, latency) == len(latency)
        except OSError:
            return False

    def close(self) -> None:
        """With its descriptor, the kernel takes back what was asked for."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor, self.held = -1, False
