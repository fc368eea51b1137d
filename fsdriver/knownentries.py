"""The content database, read beside whoever writes it: what this host knows, as of the last commit.

Takes no lock and keeps no transaction open, so a mount's commits go on meanwhile. contentdb.py is
the driver's own way in.
"""

import os
from typing import Self

from fsdriver import contentdb_file
from fsdriver.contentdb_file import FILE_NAME, told
from fsdriver.offline import OfflineStore


class KnownEntries:
    """Of one store. Raises StoreDamaged for a database that cannot be used."""

    def __init__(self, path: str, store_id: bytes) -> None:
        self._path = path
        self._database = contentdb_file.connect(path, store_id)
        with told(path, "read"):
            self._database.execute("PRAGMA query_only = ON")
            meta = contentdb_file.read_meta(self._database, path)
        self.complete = meta.complete
        """Whether an entry that is not known was never made by a driver of this host."""
        self.checkpoint = meta.checkpoint
        """Of the newest checkpoint that was committed: what it held is in place."""
        self._unclean = meta.unclean

    @classmethod
    def of(cls, store: OfflineStore) -> Self | None:
        """None where this host has none yet. Raises StoreError."""
        path = os.path.join(store.host_folder, FILE_NAME)
        return cls(path, store.store_id) if contentdb_file.require_private(path) else None

    def close(self) -> None:
        """Give its descriptors back."""
        self._database.close()

    def newest_checkpoint(self) -> int:
        """As of now, not of when this was opened."""
        with told(self._path, "read"):
            (number,) = self._database.execute("SELECT checkpoint FROM meta").fetchone()
        return int(number)

    def expected(self, folder_id: bytes) -> dict[str, bytes]:
        """Backing name -> object of every entry of a folder; empty: not opened yet."""
        with told(self._path, "read"):
            rows = self._database.execute(
                "SELECT text, object FROM entries WHERE folder = ?", (folder_id,)
            ).fetchall()
        return {os.fsdecode(text): object_id for text, object_id in rows}

    def object_of(self, folder_id: bytes, text: str) -> bytes | None:
        """Of one entry; None for an entry that is not known."""
        with told(self._path, "read"):
            row = self._database.execute(
                "SELECT object FROM entries WHERE folder = ? AND text = ?",
                (folder_id, os.fsencode(text)),
            ).fetchone()
        return bytes(row[0]) if row else None

    def needs_reconciling(self, folder_id: bytes) -> bool:
        """Whether the store's word counts once for a folder: after a stop, or never seen yet."""
        if self.complete and not self._unclean:
            return False
        with told(self._path, "read"):
            row = self._database.execute(
                "SELECT reconciled FROM folders WHERE folder = ?", (folder_id,)
            ).fetchone()
        return row is None or row[0] < self._unclean

    def committed_generation(self, object_id: bytes) -> int:
        """Newest generation of a file or folder that is known for sure; 0 for none."""
        with told(self._path, "read"):
            row = self._database.execute(
                "SELECT generation FROM objects WHERE object = ?", (object_id,)
            ).fetchone()
        return row[0] if row else 0
