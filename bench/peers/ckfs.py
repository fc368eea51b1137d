"""ckfs itself, by its command line, as a user runs it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench.figures import Kind
from bench.peers.system import FuseSystem, Room, Unavailable, first_line

_PROGRAM = str(Path(sys.executable).with_name("ckfs"))
_LATENCY = "/dev/cpu_dma_latency"
DURABILITY = (
    "answered: survives a kill of the driver; fsync returned: survives a power cut; the rest "
    "reaches the disk within about 5 s (FORMAT.md 12.6)"
)


class Ckfs(FuseSystem):
    """`transport` None: the default of `ckfs mount`."""

    kind: ClassVar[Kind] = "ours"
    binary: ClassVar[str] = _PROGRAM
    package: ClassVar[str] = ""

    def __init__(self, room: Room, transport: str | None, options: tuple[str, ...] = ()) -> None:
        super().__init__(room)
        self._transport, self._options = transport, options
        self.setting = ", ".join([f"transport {transport or 'default'}", *options])
        if transport != "pyfuse3" and "noawake" not in options and os.access(_LATENCY, os.W_OK):
            self.setting += "; keeps processors awake while requests follow each other"

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"ckfs {self._transport}" if self._transport else "ckfs"

    def version(self) -> str:
        said = super().version()
        if self._transport:
            told = subprocess.run(
                [_PROGRAM, "mount", "--help"], check=True, capture_output=True, text=True
            ).stdout
            if "--transport" not in told:
                raise Unavailable(
                    "this ckfs has one transport, the one that the column `ckfs` shows"
                )
        return first_line(said)

    def environment(self) -> Mapping[str, str]:
        """Python may keep what it has compiled, as an installed ckfs has it from the beginning.

        Otherwise a mount is measured with the compilation of the whole driver in it.
        """
        environment = dict(super().environment())
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return environment

    def _state(self) -> list[str]:
        return ["--state-dir", str(self.room.place / "state")]

    def create(self) -> None:
        self.room.place.mkdir(parents=True)
        self.room.mountpoint.mkdir(parents=True)
        self.run(_PROGRAM, "init", *self._state(), self.store)

    def mount_words(self) -> list[str]:
        words = [_PROGRAM, "mount", "--foreground", *self._state()]
        if self._transport:
            words += ["--transport", self._transport]
        for option in self._options:
            words += ["-o", option]
        return [*words, str(self.store), str(self.room.mountpoint)]
