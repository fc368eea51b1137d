"""Which files a scrub has verified already, so that one that was stopped can go on.

A small SQLite file in the host's folder for the store, 0600. It only saves time: losing it costs
reading again what was read.
"""

import os
import sqlite3
import time
from contextlib import suppress
from typing import Final, Self

from fsdriver.findings import FileReport

_FILE: Final = "scrub.sqlite"
_FORMAT: Final = 1
_COMMIT_SECONDS: Final = 1.0
_BROKEN: Final = (sqlite3.Error, UnicodeDecodeError)
"""What a damaged file comes to; the second when an error's own text quotes it."""


class ScrubState:
    """Of one run over one store, known by (inode, ctime, length)."""

    def __init__(self, folder: str, *, resume: bool) -> None:
        """`resume` False begins anew. Raises OSError or sqlite3.Error."""
        self._path = os.path.join(folder, _FILE)
        self._committed = time.monotonic()
        if not resume:
            self.remove()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(self._path, flags, 0o600))
        self._database = sqlite3.connect(self._path, isolation_level=None)
        try:
            self._prepare()
        except _BROKEN:
            # It is not the store's word, so a broken one is no reason to stop.
            self._database.close()
            self.remove()
            os.close(os.open(self._path, flags, 0o600))
            self._database = sqlite3.connect(self._path, isolation_level=None)
            self._prepare()

    def _prepare(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        self._database.execute("PRAGMA synchronous = OFF")
        if version != _FORMAT:
            self._database.execute("DROP TABLE IF EXISTS verified")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS verified (inode INTEGER PRIMARY KEY, changed_ns INTEGER, "
            "length INTEGER, bytes INTEGER)"
        )
        self._database.execute(f"PRAGMA user_version = {_FORMAT}")
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Keep what was noted."""
        with suppress(*_BROKEN):
            self._database.execute("COMMIT")
        self._database.close()

    def remove(self) -> None:
        """At the end of a run that went through: the next one reads everything again."""
        for ending in ("", "-journal"):
            with suppress(FileNotFoundError):
                os.unlink(self._path + ending)

    def note(self, report: FileReport) -> None:
        """A file in which nothing was found."""
        with suppress(*_BROKEN):
            self._note(report)

    def _note(self, report: FileReport) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO verified VALUES (?, ?, ?, ?)",
            (_signed(report.inode), report.changed_ns, report.length, report.verified_bytes),
        )
        if time.monotonic() - self._committed > _COMMIT_SECONDS:
            self._committed = time.monotonic()
            self._database.execute("COMMIT")
            self._database.execute("BEGIN")

    def knows(self, status: os.stat_result) -> bool:
        """Whether this very state of a file was verified; a hard link's other name counts."""
        try:
            row = self._database.execute(
                "SELECT changed_ns, length FROM verified WHERE inode = ?", (_signed(status.st_ino),)
            ).fetchone()
        except _BROKEN:
            return False
        return bool(row == (status.st_ctime_ns, status.st_size))


def _signed(inode: int) -> int:
    """SQL's integers have a sign."""
    return inode - (1 << 64) if inode >> 63 else inode
