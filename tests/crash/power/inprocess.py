"""The script's calls straight on the filesystem's operations, with a store that fails."""

from __future__ import annotations

import os
import shutil

from fsdriver.changes import Changes
from tests.crash.power.faulty import Faulty
from tests.filesystem.driver import CALLER, Driver


class FaultyDriver(Driver):
    """A copy of a store that was made before, on a backing that fails when told to."""

    def __init__(self, folder: str, template: Driver) -> None:
        self.store = os.path.join(folder, "store")
        self.state_dir = os.path.join(folder, "state")
        shutil.copytree(template.store, self.store, symlinks=True)
        shutil.copytree(template.state_dir, self.state_dir)
        self.faulty = Faulty()
        self.backing = self.faulty
        self.open()

    def has_ended(self) -> bool:
        """Whether the host's record calls the last session ended."""
        known = self.book._load()
        return self.session.id.hex() not in (known.running, *known.unended)

    def unsafe(self, path: str = "", *, journal: bool = True) -> list[str]:
        """Backing files, one or all, and the journal's, that a power cut would leave behind."""
        places = []
        for folder, _folders, names in os.walk(self.store):
            in_journal = journal and os.path.basename(folder) == "journal"
            places += [
                os.path.join(folder, name)
                for name in names
                if not path or in_journal or os.path.join(folder, name) == path
            ]
        told = ((place, self.faulty.unsafe(os.lstat(place).st_ino)) for place in places)
        return [f"{os.path.relpath(place, self.store)}: {what}" for place, what in told if what]


class InProcess:
    """A `Calls` of a driver without a mount."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.paths: dict[int, str] = {}

    def open(self, path: str, flags: int) -> int:
        driver = self.driver
        if flags & os.O_CREAT:
            _attributes, handle = driver.fs.create(*driver.split(path), 0o600, flags, CALLER)
        else:
            handle = driver.fs.open(driver.number(path), flags)
        self.paths[handle] = path
        return handle

    def write(self, handle: int, data: bytes, at: int) -> None:
        assert self.driver.fs.write(handle, at, data) == len(data)

    def fsync(self, handle: int) -> None:
        self.driver.fs.begin_fsync(handle, data_only=False)()

    def fdatasync(self, handle: int) -> None:
        self.driver.fs.begin_fsync(handle, data_only=True)()

    def ftruncate(self, handle: int, size: int) -> None:
        number = self.driver.number(self.paths[handle])
        self.driver.fs.setattr(number, Changes(size=size))

    def close(self, handle: int) -> None:
        """close(2) gives the descriptor back even when it tells of an error."""
        try:
            self.driver.fs.flush(handle)
        finally:
            self.driver.fs.release(handle)

    def read(self, path: str) -> bytes:
        return self.driver.read_file(path)

    def truncate(self, path: str, size: int) -> None:
        self.driver.fs.setattr(self.driver.number(path), Changes(size=size))

    def mkdir(self, path: str) -> None:
        self.driver.mkdir(path)

    def rmdir(self, path: str) -> None:
        self.driver.fs.rmdir(*self.driver.split(path))

    def rename(self, old: str, new: str) -> None:
        self.driver.fs.rename(*self.driver.split(old), *self.driver.split(new))

    def link(self, old: str, new: str) -> None:
        self.driver.fs.link(self.driver.number(old), *self.driver.split(new))

    def unlink(self, path: str) -> None:
        self.driver.fs.unlink(*self.driver.split(path))

    def symlink(self, target: str, path: str) -> None:
        self.driver.fs.symlink(*self.driver.split(path), target.encode(), CALLER)

    def chmod(self, path: str, mode: int) -> None:
        self.driver.fs.setattr(self.driver.number(path), Changes(mode=mode))

    def setxattr(self, path: str, value: bytes) -> None:
        self.driver.fs.setxattr(self.driver.number(path), b"user.note", value, CALLER)

    def fsync_folder(self, path: str) -> None:
        handle = self.driver.fs.opendir(self.driver.number(path))
        try:
            self.driver.fs.begin_fsync_directory(handle)()
        finally:
            self.driver.fs.releasedir(handle)

    def names(self, path: str) -> list[str]:
        return [os.fsdecode(name) for name in self.driver.names(self.driver.number(path))]

    def kind(self, path: str) -> int:
        return self.driver.fs.getattr(self.driver.number(path)).mode

    def readlink(self, path: str) -> str:
        return os.fsdecode(self.driver.fs.readlink(self.driver.number(path)))
