"""Content that says of every 64 bytes which file, which place and which write they come from."""

from __future__ import annotations

import re
from itertools import groupby

LINE = 64
TAG = 36
_LINE = re.compile(rb"(.{36}) (\d{12}) v(\d{12})\n")


def written(tag: str, version: int, offset: int, length: int) -> bytes:
    """What write number `version` puts at [offset, offset + length) of file `tag`."""
    first, end = offset // LINE, -(-(offset + length) // LINE)
    lines = "".join(f"{tag:<36.36} {index:012} v{version:012}\n" for index in range(first, end))
    start = offset - first * LINE
    return lines.encode()[start : start + length]


def tag_of(data: bytes) -> str:
    """Which file the first line says it is from; empty for anything else."""
    found = _LINE.match(data)
    return found[1].decode().rstrip() if found else ""


def described(data: bytes, offset: int) -> str:
    """For a complaint: runs of lines and the writes they come from."""
    offset -= offset % LINE
    told = []
    for at in range(0, len(data), LINE):
        line = data[at : at + LINE]
        found = _LINE.fullmatch(line)
        if found:
            right = int(found[2]) == (offset + at) // LINE
            told.append(f"write {int(found[3])}" + ("" if right else f" of line {int(found[2])}"))
        else:
            told.append("zeros" if not any(line) else "a part" if len(line) < LINE else "garbage")
    runs = [f"{len(list(run))} x {what}" for what, run in groupby(told)]
    return ", ".join(runs[:12]) + (", ..." if len(runs) > 12 else "")
