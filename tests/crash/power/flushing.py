"""What the kernel does on its own before the power goes: some pages written back, others not.

Ranges of backing files are written back in any order, page by page if it so happens, and the disk's
own journal is committed at any moment. So what was not synced is there in part and torn.
"""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

MODES = ("none", "pages", "files", "commits", "all")
_PAGE = 4096
_WRITE_AND_WAIT = 7
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def flush_until(
    ended: Callable[[], bool], folder: Path, mode: str, order: random.Random
) -> dict[str, int]:
    """Write back by chance until `ended` says so; returns how much of what."""
    done = dict.fromkeys(("ranges", "commits"), 0)
    files: list[str] = []
    listed = 0.0
    while not ended():
        if mode == "none" or order.random() < 0.5:
            time.sleep(order.random() * 0.004)
            continue
        if mode == "commits" or (mode == "all" and order.random() < 0.1):
            _commit(folder / "noise")
            done["commits"] += 1
            continue
        if time.monotonic() - listed > 0.02:
            files = _newest(folder)
            listed = time.monotonic()
        if files:
            _flush(order.choice(files), order, whole=mode == "files")
            done["ranges"] += 1
    return done


def _newest(folder: Path) -> list[str]:
    found = []
    for place, _folders, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            with suppress(OSError):
                found.append((os.lstat(path).st_mtime_ns, path))
    return [path for _time, path in sorted(found)[-12:]]


def _flush(path: str, order: random.Random, *, whole: bool) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            pages = -(-os.fstat(descriptor).st_size // _PAGE)
            if whole or not pages:
                start, length = 0, 0  # to the end
            else:
                start = order.randrange(pages) * _PAGE
                length = order.choice((1, 1, 3, 16, 40)) * _PAGE
            _LIBC.sync_file_range(descriptor, start, length, _WRITE_AND_WAIT)
        finally:
            os.close(descriptor)


def _commit(place: Path) -> None:
    """The fsync of a file that has nothing to do with the store."""
    with suppress(OSError), place.open("ab", buffering=0) as file:
        file.write(b"x")
        os.fsync(file.fileno())
