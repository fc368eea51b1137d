"""A folder of the host's, of which nothing may be read or written: who did shows in its times."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LONG_AGO = 1


def watch(folder: Path) -> dict[str, tuple[int, ...]]:
    """Have everything look unread for ages; what is there now."""
    for place in (folder, *folder.rglob("*")):
        mtime = place.lstat().st_mtime_ns
        os.utime(place, ns=(_LONG_AGO, mtime), follow_symlinks=False)
    return _look(folder)


def touched(folder: Path, before: dict[str, tuple[int, ...]]) -> list[str]:
    """What was read, written, made or removed since."""
    now = _look(folder)
    return sorted(path for path in before | now if before.get(path) != now.get(path))


def _look(folder: Path) -> dict[str, tuple[int, ...]]:
    found = {}
    for place in (folder, *folder.rglob("*")):
        status = place.lstat()
        times = (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
        found[str(place)] = (status.st_mode, status.st_size, *times)
    # Looking into a folder reads it.
    for path, facts in found.items():
        if os.path.isdir(path):
            found[path] = (facts[0], facts[1], 0, *facts[3:])
    return found
