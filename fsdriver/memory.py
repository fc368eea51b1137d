"""What memory the driver holds: how the allocator and the collector are set, and what is in use.

Both are made for programs that come and go. A mount knows a hundred thousand files for weeks:
their inodes are no garbage, and what a busy minute needed goes back to the system after it.
"""

import ctypes
import gc
from contextlib import suppress
from typing import Final

# What mallopt(3) calls them.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_TRIM: Final = 1 << 20
_MAPPED: Final = 2 << 20
"""Bytes from which on a block is a mapping of its own: tables, not what a request needs."""
_YOUNG: Final = 20_000
"""New objects after which the collector looks at them. At Python's 700 it looked at all inodes
again and again: a quarter of the time in which files are made."""


def settle() -> None:
    """Before the second thread. Where there is no mallopt(3) only the collector is set."""
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        # A heap for each thread would be kept for each; they take turns anyway.
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED)
        mallopt(_M_TRIM_THRESHOLD, _TRIM)
    gc.set_threshold(_YOUNG, 10, 10)


def freeze() -> None:
    """What is there once the mount stands stays: the collector need not look at it again."""
    gc.collect()
    gc.freeze()


def resident() -> dict[str, int]:
    """Bytes in memory now, and the most there ever were, as the kernel counts them.

    Empty where the kernel does not say.
    """
    found: dict[str, int] = {}
    with suppress(OSError, ValueError), open("/proc/self/status", "rb") as lines:
        for line in lines:
            name, _, value = line.partition(b":")
            if name in _COUNTED:
                found[_COUNTED[name]] = int(value.split()[0]) << 10
    return found


_COUNTED: Final = {b"VmRSS": "resident_bytes", b"VmHWM": "peak_bytes"}
