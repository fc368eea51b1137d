"""A driven store whose notes may lie on another disk, and whose driver may be traced."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.mounted.driving import CKFS, DEADLINE, Driven

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Cuttable(Driven):
    """As any other driven store, but for where the host keeps its keys and notes."""

    state_place: Path | None = None
    wrapper: tuple[str, ...] = ()
    """Words before `ckfs` when it mounts, such as those of strace -D, which stays behind."""

    @property
    def state(self) -> Path:
        return self.state_place or self.folder / "state"

    def mount_command(self, *options: str) -> list[str | Path]:
        """As the command line takes it."""
        log = ("--log-file", self.log_place)
        return [*self.wrapper, CKFS, "mount", *options, *log, self.store, self.mountpoint]

    def mount(self, *options: str) -> Path:
        """In the background; returns when the mount answers."""
        said = self.folder / "mount.said"
        with said.open("wb") as place:  # a tracer that stays would keep a pipe open
            done = subprocess.run(
                self.mount_command(*options),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=place,
                stderr=place,
                timeout=2 * DEADLINE,
                check=False,
            )
        if done.returncode:
            raise AssertionError(f"`ckfs mount` ended with {done.returncode}: {said.read_text()}")
        return self.mountpoint
