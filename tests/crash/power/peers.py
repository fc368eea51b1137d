"""Other filesystems in the driver's place: the same programs, cuts and judges, for comparison.

`plain` is the disk itself: what is wrong with it is either a torn chunk or a mistake of the judge.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.crash.power.cuttable import Cuttable
from tests.mounted.driving import is_running, until

_ANSWER = "of no use"
_INIT = {
    "plain": [],
    "gocryptfs": ["gocryptfs", "-q", "-init", "-scryptn", "10", "-extpass", f"echo {_ANSWER}"],
    "securefs": ["securefs", "create", "--pass", _ANSWER, "--rounds", "1", "--format", "lite"],
    "encfs": [],
}
_MOUNT = {
    "plain": ["mount", "--bind"],
    "gocryptfs": ["gocryptfs", "-q", "-extpass", f"echo {_ANSWER}"],
    "securefs": ["securefs", "mount", "--background", "--pass", _ANSWER],
    "encfs": ["encfs", "--standard", "--extpass", f"echo {_ANSWER}"],
}
NAMES = tuple(_MOUNT)


@dataclass
class Peer(Cuttable):
    """Driven as a store of our own is; it has no log and no folder of the host's."""

    program: str = "plain"

    def init(self, *_options: str) -> Peer:
        self.store.mkdir()
        self.state.mkdir()
        if _INIT[self.program]:
            subprocess.run([*_INIT[self.program], self.store], check=True, capture_output=True)
        return self

    def mount(self, *_options: str) -> Path:
        subprocess.run(
            [*_MOUNT[self.program], self.store, self.mountpoint],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        until(self.is_mounted, f"{self.program} mounts")
        return self.mountpoint

    def pids(self) -> list[int]:
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                runs = words[0].rpartition(b"/")[2] == self.program.encode()
                if runs and os.fsencode(self.mountpoint) in words and is_running(int(pid)):
                    found.append(int(pid))
        return found
