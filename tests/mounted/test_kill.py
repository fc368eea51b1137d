"""The driver is killed at any instant: what it had acknowledged is there after the next mount."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import suppress

import pytest

pytestmark = [pytest.mark.mounted, pytest.mark.crash]

WRITER = """
import os, sys
place, seed = sys.argv[1], int(sys.argv[2])
import random
order = random.Random(seed)
log = os.open(sys.argv[3], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
def said(text):
    os.write(log, text.encode() + b"\\n")
turn = 0
open_file = os.open(os.path.join(place, f"{seed}-open"), os.O_CREAT | os.O_RDWR)
said(f"make {seed}-open")
while True:
    turn += 1
    name = f"{seed}-{turn}"
    size = order.choice((0, 10, 5000, 65536, 300_000))
    descriptor = os.open(os.path.join(place, name), os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, bytes([turn % 251]) * size)
    said(f"file {name} {turn % 251} {size}")
    if turn % 3:
        os.close(descriptor)
    at = order.randrange(500_000)
    os.pwrite(open_file, b"%010d" % turn, at)
    said(f"write {seed}-open {at} {turn:010}")
    if turn % 5 == 0:
        said(f"going {name}")
        os.rename(os.path.join(place, name), os.path.join(place, f"{name}-renamed"))
        said(f"rename {name} {name}-renamed")
    if turn % 7 == 0:
        os.mkdir(os.path.join(place, f"{name}-folder"))
        said(f"folder {name}-folder")
        os.symlink(name, os.path.join(place, f"{name}-folder", "link"))
        said(f"link {name}-folder/link {name}")
"""


def replay(driven, log: str) -> int:
    """What the programs were told is true; returns how much that was."""
    place = driven.mountpoint
    files: dict[str, tuple[int, int]] = {}
    last: dict[str, dict[int, str]] = {}
    going = None
    lines = log.splitlines()
    for line in lines:
        verb, *words = line.split(" ")
        if verb == "file":
            files[words[0]] = (int(words[1]), int(words[2]))
        elif verb == "going":
            going = words[0]
        elif verb == "rename":
            files[words[1]] = files.pop(words[0])
            going = None
        elif verb == "folder":
            assert (place / words[0]).is_dir()
        elif verb == "link":
            assert os.readlink(place / words[0]) == words[1]
        elif verb == "write":
            last.setdefault(words[0], {})[int(words[1])] = words[2]
    for name, (byte, size) in files.items():
        found = place / name
        if name == going and not found.exists():
            # Killed between the rename and what the program was told of it.
            found = place / f"{name}-renamed"
        assert found.read_bytes() == bytes([byte]) * size, name
    for name, writes in last.items():
        content = (place / name).read_bytes()
        expected = bytearray(len(content))
        for at, text in writes.items():
            expected[at : at + 10] = text.encode()
        # One write may have been done and not acknowledged.
        different = [at for at in range(len(content)) if content[at] != expected[at]]
        assert not different or different[-1] - different[0] < 10
    return len(lines)


@pytest.mark.parametrize(
    "turn", [0, 1, *[pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 4)]]
)
def test_what_was_acknowledged_is_there(driven, turn):
    logs = [driven.folder / f"said-{number}" for number in range(2)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, driven.mountpoint, f"{turn}{number}", log],
            stderr=subprocess.DEVNULL,
        )
        for number, log in enumerate(logs)
    ]
    deadline = time.monotonic() + 30
    wanted = random.Random(turn).randrange(5_000, 20_000)
    while sum(log.stat().st_size for log in logs if log.exists()) < wanted:
        assert time.monotonic() < deadline, "the writers make no headway"
        assert all(writer.poll() is None for writer in writers)
        time.sleep(0.001)
    driven.kill(*writers)
    driven.mount()
    assert sum(replay(driven, log.read_text()) for log in logs) > 50
    # No repair is needed, nothing was refused, and what was made is usable.
    for one in driven.mountpoint.iterdir():
        if one.is_file():
            with one.open("ab") as file:
                file.write(b"more")
    driven.remount()
    hidden = [name for name in os.listdir(driven.store) if name.startswith(".ckfs-tmp-")]
    assert len(hidden) <= len(writers)


def test_a_file_that_is_nearly_all_hole_comes_back_soon(driven):
    place = driven.mountpoint / "file"
    file = os.open(place, os.O_CREAT | os.O_WRONLY)
    os.write(file, b"begin")
    os.ftruncate(file, 8 << 40)
    os.pwrite(file, b"middle", 4 << 40)
    began = time.monotonic()
    driven.kill()
    with suppress(OSError):  # there is nobody any more to close it
        os.close(file)
    driven.mount()
    with place.open("rb") as file:
        assert file.read(5) == b"begin"
        assert os.pread(file.fileno(), 6, 4 << 40) == b"middle"
        assert os.fstat(file.fileno()).st_size == 8 << 40
    assert time.monotonic() - began < 20


def test_killed_while_nothing_happens(driven):
    (driven.mountpoint / "file").write_bytes(b"content")
    driven.kill()
    driven.mount()
    assert (driven.mountpoint / "file").read_bytes() == b"content"
    assert "event=recovered" not in driven.log()
