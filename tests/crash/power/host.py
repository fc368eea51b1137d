"""A host: a store on a disk that can be cut, its keys and notes on another, and the driver.

The host's own folder lies on a disk that keeps its power, or on a second one that is cut with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.crash.power.cuttable import Cuttable
from tests.crash.power.disk import Disk
from tests.crash.power.peers import Peer
from tests.mounted.driving import detach, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Host:
    """Made from a template, or empty to become one."""

    def __init__(
        self, folder: Path, kind: str, *, state_is_cut: bool = False, peer: str = ""
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self.kind = kind
        self.starting = folder / "starting.said"
        self.store_disk = Disk(folder, "disk", kind)
        self.disks = [self.store_disk]
        state = None
        if state_is_cut:
            self.disks.append(Disk(folder, "state-disk", "ext4", mib=32))
            state = self.disks[1].place / "state"
        self.driven: Cuttable = (
            Peer(folder, self.store_disk.place, program=peer)
            if peer
            else Cuttable(folder, self.store_disk.place, state_place=state)
        )

    def make(self, chunk_size: int, prepare: Callable[[Path], None]) -> Host:
        """A new store with what is old in it; everything is durable and unmounted then."""
        self.store_disk.make()
        self.driven.init("--chunk-size", str(chunk_size))
        prepare(self.driven.mount())
        self.driven.umount()
        self.store_disk.umount()
        return self

    def copy_of(self, template: Host) -> Host:
        self.store_disk.copy_of(template.store_disk)
        if len(self.disks) > 1:
            self.disks[1].make()
        shutil.copytree(template.driven.state, self.driven.state)
        if len(self.disks) > 1:
            self.disks[1].umount()
            self.disks[1].mount()
        return self

    def start_mounting(self) -> subprocess.Popen[bytes]:
        """`ckfs mount` under way; for a cut while it works. What it says goes to `starting`."""
        with self.starting.open("wb") as place:
            return subprocess.Popen(
                self.driven.mount_command(),
                env=self.driven.environment,
                stdout=place,
                stderr=place,
            )

    def cut(self) -> None:
        """The power is gone, and with it everything that ran; `restart` gives it back."""
        self.cut_disks()
        self.kill()

    def cut_disks(self) -> None:
        """What runs goes on without them, as when a cable is pulled."""
        for disk in self.disks:
            disk.cut()

    def kill(self) -> None:
        """kill -9 of the driver; programs that wait for it get an error."""
        driven = self.driven
        for pid in driven.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not driven.pids(), "the driver dies")

    def forget_mount(self) -> None:
        """Take the dead mount away; nobody may be at work in it any more."""
        while self.driven.is_mounted():
            detach(self.driven.mountpoint)

    def restart(self) -> None:
        """The disks again, as a boot finds them; the driver is not started."""
        self.forget_mount()
        for disk in self.disks:
            disk.umount()
            disk.mount()

    def end(self) -> list[str]:
        """Leave nothing behind; returns what should not have been left so."""
        left = self.driven.end_mount()
        for disk in self.disks:
            disk.destroy()
        shutil.rmtree(self.folder, ignore_errors=True)
        return left
