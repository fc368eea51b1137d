"""Every fault: at each call of the store in one process, then at each system call of a real driver.

`python -m tests.crash.power.faultrun` prints what it did and what was wrong.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.crash.power.disk import Disk
from tests.crash.power.faultloop import FaultLoop, in_memory
from tests.crash.power.traced import Traced, TracedFault, faults_of
from tests.mounted.driving import Driven

if TYPE_CHECKING:
    from collections.abc import Sequence

_FOLDERS = 60
KILLED_AT = (
    *("pwritev2", "pwrite64", "renameat", "renameat2", "unlinkat", "openat", "fsync"),
    *("fdatasync", "ftruncate", "linkat", "mkdirat", "symlinkat"),
)


def in_one_process() -> list[str]:
    """Each call of the store with each of its errors; the driver goes on, or is killed."""
    with tempfile.TemporaryDirectory(prefix="ckfs-faults-", dir=in_memory()) as folder:
        loop = FaultLoop(Path(folder))
        with contextlib.redirect_stdout(io.StringIO()):  # the log of a driver that is no process
            for fault in loop.every():
                loop.run(fault)
                loop.run(replace(fault, killed=True))
        print(f"{loop.runs} runs in one process, {len(loop.wrong)} wrong")
        return [f"{fault}: {what}" for fault, what in loop.wrong]


def _one_mount(place: Path, faults: Sequence[TracedFault] = ()) -> tuple[list[str], Traced]:
    """As many faults as a mount has folders; without any, the calls are counted only."""
    disk = Disk(place, "disk", "ext4").make()
    traced = Traced(Driven(place, disk.place))
    try:
        traced.make(_FOLDERS if faults else 1)
        for folder, fault in enumerate(faults, 1):
            traced.run(folder, fault)
        if not faults:
            traced.counts += traced.calls()
        traced.look()
        return traced.wrong, traced
    finally:
        traced.wrong += traced.driven.end_mount()
        disk.destroy()


def real_process() -> list[str]:
    """Each system call of the script with each of its errors, and a kill at each."""
    with tempfile.TemporaryDirectory(prefix="ckfs-traced-") as folder:
        base = Path(folder)
        (base / "count").mkdir()
        wrong, counted = _one_mount(base / "count")
        calls = counted.counts
        print(f"system calls of the script: {dict(sorted(calls.items()))}")
        faults = faults_of(calls, every_error=True)
        faults += [
            TracedFault(call, number, 0)
            for call in KILLED_AT
            for number in range(1, calls[call] + 1)
        ]
        for first in range(0, len(faults), _FOLDERS - 1):
            part = faults[first : first + _FOLDERS - 1]
            place = base / str(first)
            place.mkdir()
            told, traced = _one_mount(place, part)
            wrong += told
            print(
                f"{first + len(part)} of {len(faults)} faults of a real driver, "
                f"{len(wrong)} wrong; here {dict(traced.counts)}",
                flush=True,
            )
    return wrong


def main() -> int:
    wrong = in_one_process() + real_process()
    for one in wrong:
        print(f"WRONG {one}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
