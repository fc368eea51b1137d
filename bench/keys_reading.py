"""How long a mount still answers reads after its keys were taken away."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

DEADLINE_SECONDS = 120.0
_PAUSE_SECONDS = 0.002


class _Reader(threading.Thread):
    """Reads one file in a loop, opened anew and through an open descriptor, until both fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._held = os.open(path, os.O_RDONLY)
        os.pread(self._held, 16, 0)  # so that the kernel has the page
        self.last = time.monotonic()
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            while not self.ended.wait(_PAUSE_SECONDS):
                if not (self._read_anew() | self._read_held()):
                    self.ended.set()
        finally:
            os.close(self._held)

    def _read_anew(self) -> bool:
        if not readable(self._path):
            return False
        self.last = time.monotonic()
        return True

    def _read_held(self) -> bool:
        try:
            os.pread(self._held, 16, 0)
        except OSError:
            return False
        self.last = time.monotonic()
        return True


def readable(path: Path) -> bool:
    """Whether the driver answers a read: the kernel's page is dropped first."""
    try:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.read(16)
    except OSError:
        return False
    return True


def seconds_to_last_read(path: Path, take_away: Callable[[], None]) -> float:
    """From the return of `take_away` to the last read that was answered; 0.0 if that was before.

    Ends the program if reads go on for DEADLINE_SECONDS.
    """
    reader = _Reader(path)
    reader.start()
    try:
        take_away()
        gone = time.monotonic()
        if not reader.ended.wait(DEADLINE_SECONDS):
            raise SystemExit(f"bench: {path} is still read {DEADLINE_SECONDS:.0f} s later")
    finally:
        reader.ended.set()
        reader.join()
    return max(0.0, reader.last - gone)


def wait_until_readable(path: Path) -> None:
    """Ends the program if it takes longer than DEADLINE_SECONDS."""
    until = time.monotonic() + DEADLINE_SECONDS
    while not readable(path):
        if time.monotonic() > until:
            raise SystemExit(f"bench: {path} cannot be read after {DEADLINE_SECONDS:.0f} s")
        time.sleep(_PAUSE_SECONDS)


def look_at_everything(top: Path) -> int:
    """The mount and the kernel know every file afterwards; returns how many there are."""
    count = 0
    for _folder, _folders, files, descriptor in os.fwalk(top):
        for name in files:
            with suppress(FileNotFoundError):
                os.stat(name, dir_fd=descriptor)
                count += 1
    return count
