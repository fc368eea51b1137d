"""The encrypting filesystems that Debian ships: how each is made, mounted, and cut into chunks."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.attacks.rooms import Shape
from tests.mounted.driving import mountpoints_below, unmount, until

if TYPE_CHECKING:
    from pathlib import Path

_ANSWER = "of no use"
_PATIENCE = 120.0
"""CryFS takes a quarter of a minute of scrypt for each mount."""


@dataclass(frozen=True)
class Program:
    """`{store}` and `{mountpoint}` are put in; the mount stays in the foreground."""

    name: str
    binary: str
    shape: Shape
    mount: tuple[str, ...]
    init: tuple[str, ...] = ()
    version: tuple[str, ...] = ("--version",)
    names: bool = True
    """One backing file for each file."""


PROGRAMS = (
    Program(
        "gocryptfs",
        "gocryptfs",
        Shape(header=18, plain=4096, overhead=32, nonce=16),
        ("gocryptfs", "-q", "-fg", "-extpass", f"echo {_ANSWER}", "{store}", "{mountpoint}"),
        ("gocryptfs", "-q", "-init", "-scryptn", "10", "-extpass", f"echo {_ANSWER}", "{store}"),
        ("-version",),
    ),
    Program(
        "EncFS standard",
        "encfs",
        Shape(header=8, plain=1024, overhead=0),
        ("encfs", "-f", "--standard", "--extpass", f"echo {_ANSWER}", "{store}", "{mountpoint}"),
    ),
    Program(
        "EncFS paranoia",
        "encfs",
        Shape(header=8, plain=1016, overhead=8),
        ("encfs", "-f", "--paranoia", "--extpass", f"echo {_ANSWER}", "{store}", "{mountpoint}"),
    ),
    Program(
        "securefs lite",
        "securefs",
        Shape(header=16, plain=4096, overhead=28, nonce=12),
        ("securefs", "mount", "--pass", _ANSWER, "{store}", "{mountpoint}"),
        ("securefs", "create", "--pass", _ANSWER, "--rounds", "1", "--format", "4", "{store}"),
        ("version",),
    ),
    Program(
        "rclone crypt",
        "rclone",
        Shape(header=32, plain=65536, overhead=16),
        ("rclone", "mount", "peer:", "{mountpoint}", "--read-only"),
        version=("version",),
    ),
    Program(
        "CryFS",
        "cryfs",
        Shape(header=0, plain=4096, overhead=0),
        ("cryfs", "-f", "--blocksize", "4096", "{store}", "{mountpoint}"),
        names=False,
    ),
)


@dataclass
class Mounted:
    """One store of a peer."""

    program: Program
    folder: Path
    """For mount points and what the program keeps for itself."""
    store: Path
    _process: subprocess.Popen[bytes] | None = None
    _environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mountpoint.mkdir(parents=True)
        self._environment = {
            **os.environ,
            "HOME": str(self.folder),
            "CRYFS_FRONTEND": "noninteractive",
            "CRYFS_NO_UPDATE_CHECK": "true",
            "CRYFS_LOCAL_STATE_DIR": str(self.folder / "state"),
            "RCLONE_CONFIG_PEER_TYPE": "crypt",
            "RCLONE_CONFIG_PEER_REMOTE": str(self.store),
        }
        if self.program.binary == "rclone":
            told = subprocess.run(["rclone", "obscure", _ANSWER], check=True, capture_output=True)
            self._environment["RCLONE_CONFIG_PEER_PASSWORD"] = told.stdout.decode().strip()

    @property
    def mountpoint(self) -> Path:
        return self.folder / "mount"

    @property
    def is_mounted(self) -> bool:
        return str(self.mountpoint) in mountpoints_below(self.folder)

    def run(self, *words: str) -> str:
        """A command of the program that ends; what it says."""
        done = subprocess.run(
            self._filled(words), env=self._environment, check=False, capture_output=True
        )
        if done.returncode:
            raise AssertionError(f"{words[0]} ended with {done.returncode}: {done.stderr.decode()}")
        return done.stdout.decode()

    def _filled(self, words: tuple[str, ...]) -> list[str]:
        return [word.format(store=self.store, mountpoint=self.mountpoint) for word in words]

    def init(self) -> Mounted:
        self.store.mkdir()
        if self.program.init:
            self.run(*self.program.init)
        return self

    def mount(self) -> int:
        """0 once it is mounted, else the exit code of a program that refused."""
        self._process = subprocess.Popen(
            self._filled(self.program.mount),
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        # Asked for twice where the store is new.
        self._process.stdin.write(f"{_ANSWER}\n{_ANSWER}\n".encode())
        self._process.stdin.close()
        process = self._process
        until(
            lambda: self.is_mounted or process.poll() is not None,
            f"{self.program.name} mounts",
            _PATIENCE,
        )
        return process.poll() or 0

    def umount(self) -> None:
        """Also of one that has unmounted itself."""
        assert self._process is not None
        if self.is_mounted:
            unmount(self.mountpoint)
        self._process.wait(timeout=30)

    def end(self) -> None:
        """Whatever happened."""
        if self._process is not None and self._process.poll() is None:
            if self.is_mounted:
                unmount(self.mountpoint, 2)  # MNT_DETACH
            self._process.terminate()
            self._process.wait(timeout=30)
