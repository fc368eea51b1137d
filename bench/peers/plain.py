"""The plain folder that all stores lie beside: what there is to lose."""

import platform
from pathlib import Path
from typing import ClassVar

from bench.figures import Kind
from bench.mounted_place import drop_caches
from bench.peers.system import System


class Plain(System):
    """No encryption. Its cold rows follow dropped caches, which on a tmpfs change nothing."""

    name: ClassVar[str] = "plain"
    kind: ClassVar[Kind] = "floor"
    setting = "a folder, no encryption"

    def version(self) -> str:
        return f"Linux {platform.release()}"

    def create(self) -> None:
        self.files.mkdir(parents=True)

    @property
    def files(self) -> Path:
        return self.room.place / "files"

    def mount(self) -> None:
        drop_caches(self.room.place)

    def unmount(self) -> None:
        pass
