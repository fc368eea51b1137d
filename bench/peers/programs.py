"""The encrypting filesystems that Debian ships, with their authors' defaults.

Password hashing is made cheap where that can be chosen: it is paid at mounts, which are not timed.
"""

import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import ClassVar

from bench.figures import Kind
from bench.peers.system import PASSWORD, FuseSystem, SystemFailed, cpu_seconds


class Gocryptfs(FuseSystem):
    name: ClassVar[str] = "gocryptfs"
    kind: ClassVar[Kind] = "peer"
    binary: ClassVar[str] = "gocryptfs"
    package: ClassVar[str] = "gocryptfs"
    version_words: ClassVar[tuple[str, ...]] = ("-version",)
    setting = "defaults: AES-256-GCM, blocks of 4 KiB"
    _PASSWORD: ClassVar[tuple[str, ...]] = ("-extpass", f"echo {PASSWORD}")

    def create(self) -> None:
        super().create()
        self.run("gocryptfs", "-q", "-init", "-scryptn", "10", *self._PASSWORD, self.store)

    def mount_words(self) -> list[str]:
        where = (str(self.store), str(self.room.mountpoint))
        return ["gocryptfs", "-q", "-fg", *self._PASSWORD, *where]


class Securefs(FuseSystem):
    name: ClassVar[str] = "securefs"
    kind: ClassVar[Kind] = "peer"
    binary: ClassVar[str] = "securefs"
    package: ClassVar[str] = "securefs"
    version_words: ClassVar[tuple[str, ...]] = ("version",)
    setting = "defaults: lite format 4, AES-256-GCM, blocks of 4 KiB"

    def create(self) -> None:
        super().create()
        words = ("--pass", PASSWORD, "--rounds", "1", "--format", "4")
        self.run("securefs", "create", *words, self.store)

    def mount_words(self) -> list[str]:
        where = (str(self.store), str(self.room.mountpoint))
        return ["securefs", "mount", "--pass", PASSWORD, *where]


class Encfs(FuseSystem):
    name: ClassVar[str] = "EncFS"
    kind: ClassVar[Kind] = "peer"
    binary: ClassVar[str] = "encfs"
    package: ClassVar[str] = "encfs"
    setting = "--standard: AES-192-CBC, blocks of 1 KiB, contents not authenticated"

    def mount_words(self) -> list[str]:
        where = (str(self.store), str(self.room.mountpoint))
        return ["encfs", "-f", "--standard", "--extpass", f"echo {PASSWORD}", *where]


class Cryfs(FuseSystem):
    name: ClassVar[str] = "CryFS"
    kind: ClassVar[Kind] = "peer"
    binary: ClassVar[str] = "cryfs"
    package: ClassVar[str] = "cryfs"
    patience: ClassVar[float] = 120.0
    """It takes a quarter of a minute of scrypt for each mount."""
    setting = "defaults: XChaCha20-Poly1305, blocks of 16 KiB"

    def environment(self) -> Mapping[str, str]:
        return {
            **super().environment(),
            "CRYFS_FRONTEND": "noninteractive",
            "CRYFS_NO_UPDATE_CHECK": "true",
            "CRYFS_LOCAL_STATE_DIR": str(self.room.place / "state"),
        }

    def mount_words(self) -> list[str]:
        return ["cryfs", "-f", str(self.store), str(self.room.mountpoint)]


class Rclone(FuseSystem):
    """It writes plaintext to a cache and encrypts after it has answered."""

    name: ClassVar[str] = "rclone crypt"
    kind: ClassVar[Kind] = "peer"
    binary: ClassVar[str] = "rclone"
    package: ClassVar[str] = "rclone"
    patience: ClassVar[float] = 60.0
    version_words: ClassVar[tuple[str, ...]] = ("version",)
    setting = (
        "crypt over a local folder, --vfs-cache-mode full (random writes need it): answers from a "
        "plaintext cache, encrypts 5 s after the answer"
    )

    def environment(self) -> Mapping[str, str]:
        hidden = subprocess.run(
            ["rclone", "obscure", PASSWORD], check=True, capture_output=True, text=True
        )
        return {
            **super().environment(),
            "RCLONE_CONFIG_PEER_TYPE": "crypt",
            "RCLONE_CONFIG_PEER_REMOTE": str(self.store),
            "RCLONE_CONFIG_PEER_PASSWORD": hidden.stdout.strip(),
        }

    def mount_words(self) -> list[str]:
        cache = self.room.place / "cache"
        return [
            *("rclone", "mount", "peer:", str(self.room.mountpoint)),
            *("--vfs-cache-mode", "full", "--cache-dir", str(cache)),
        ]

    def unmount(self) -> None:
        """After what is in the cache has been encrypted, else the next mount does not have it.

        Then the cache goes: it would fill the place, and a new mount is to begin without it.
        """
        try:
            self.settle()
        finally:
            super().unmount()
            shutil.rmtree(self.room.place / "cache", ignore_errors=True)

    def settle(self) -> None:
        """Until its cache has nothing that is not encrypted yet, or it has rested for a minute."""
        end = time.monotonic() + self.patience
        before = cpu_seconds(self.processes())
        while self._dirty():
            time.sleep(0.5)
            now = cpu_seconds(self.processes())
            if now - before > 0.05:  # noqa: PLR2004 more than an idle loop's own ticks
                end = time.monotonic() + self.patience
            before = now
            if time.monotonic() > end:
                raise SystemFailed(f"{self.name}: {self._dirty()} files stay in its cache")
        super().settle()

    def _dirty(self) -> int:
        """Files that its own notes beside the cache say are to be uploaded."""
        found = 0
        for note in (self.room.place / "cache" / "vfsMeta").rglob("*"):
            with suppress(OSError):  # deleted meanwhile, or a folder
                found += b'"Dirty": true' in note.read_bytes()
        return found
