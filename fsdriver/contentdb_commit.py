"""What is noted and not yet in the content database, and the transaction that writes it.

Changes are made on the main thread and are frozen when a commit takes them; from then on the
commit's thread alone may change them. A commit tells only how far it is; the main thread draws the
conclusions (contentdb.py).
"""

import os
import sqlite3
import threading
import time
from enum import Enum, auto
from typing import Final

from fsdriver.contentdb_file import GENERATION_MAX, KnownPolicy, told
from fsdriver.errors import StoreError

GONE_KEPT: Final = 65536
"""Objects without a name whose generation is remembered in memory, for a name that comes later."""

# The count of each object's names follows every change of an entry; what comes to none is looked
# at before the commit ends. Temporary: they work on the connection that writes.
_FOLLOW: Final = """
CREATE TEMP TABLE unnamed (object BLOB NOT NULL PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE gone (object BLOB NOT NULL PRIMARY KEY, generation INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE TEMP TRIGGER entry_added AFTER INSERT ON entries WHEN length(NEW.object) > 0
BEGIN
  INSERT INTO objects VALUES (NEW.object, 0, 1)
    ON CONFLICT (object) DO UPDATE SET names = names + 1;
END;
CREATE TEMP TRIGGER entry_removed AFTER DELETE ON entries WHEN length(OLD.object) > 0
BEGIN
  UPDATE objects SET names = names - 1 WHERE object = OLD.object;
  INSERT OR IGNORE INTO unnamed VALUES (OLD.object);
END;
CREATE TEMP TRIGGER entry_replaced AFTER UPDATE OF object ON entries
BEGIN
  UPDATE objects SET names = names - 1 WHERE object = OLD.object;
  INSERT OR IGNORE INTO unnamed SELECT OLD.object WHERE length(OLD.object) > 0;
  INSERT INTO objects SELECT NEW.object, 0, 1 WHERE length(NEW.object) > 0
    ON CONFLICT (object) DO UPDATE SET names = names + 1;
END;
"""


def prepare(connection: sqlite3.Connection) -> None:
    """Once for a connection that is to write."""
    connection.executescript(_FOLLOW)


class Changes:
    """Later changes of one thing replace earlier ones; the order between things means nothing."""

    __slots__ = (
        "checkpoint",
        "entries",
        "folders",
        "generations",
        "policies",
        "renamed",
        "spared",
        "unclean",
    )

    def __init__(self) -> None:
        self.entries: dict[bytes, dict[str, bytes | None]] = {}
        """Folder, backing name, object; None: no such entry."""
        self.generations: dict[bytes, int] = {}
        self.folders: dict[bytes, int] = {}
        self.renamed: set[bytes] = set()
        """Objects that lost a name which was noted, and was not written yet."""
        self.spared: set[bytes] = set()
        """Objects that lost a name only because the store no longer had it after a stop: they may
        turn up under another."""
        self.unclean: int | None = None
        self.checkpoint: int | None = None
        self.policies: tuple[KnownPolicy, ...] | None = None

    def __bool__(self) -> bool:
        return bool(
            self.entries
            or self.generations
            or self.folders
            or self.unclean is not None
            or self.checkpoint is not None
            or self.policies is not None
        )

    def add(self, newer: "Changes") -> None:
        """Let newer changes count over these."""
        for folder, texts in newer.entries.items():
            before = self.entries.setdefault(folder, {})
            self.renamed.update(one for text in texts if (one := before.get(text)))
            before.update(texts)
        for object_id, generation in newer.generations.items():
            self.generations[object_id] = max(generation, self.generations.get(object_id, 0))
        self.folders.update(newer.folders)
        self.renamed |= newer.renamed
        self.spared |= newer.spared
        for name in ("unclean", "checkpoint", "policies"):
            if (value := getattr(newer, name)) is not None:
                setattr(self, name, value)


class Stage(Enum):
    """How far a commit is."""

    WAITING = auto()
    RUNNING = auto()
    DONE = auto()
    FAILED = auto()
    ABANDONED = auto()


class Commit:
    """One durable transaction. Called on any thread, once."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: str,
        changes: Changes,
        gone: dict[bytes, int],
    ) -> None:
        self.changes = changes
        self.stage = Stage.WAITING
        self.generations: dict[bytes, int] = {}
        """Once it has ended well: what it wrote, each over lower ones only."""
        self.dropped: dict[bytes, int] = {}
        """Once it has ended well: the objects that went, after what it wrote."""
        self._connection = connection
        self._path = path
        self._gone = gone
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Raises StoreError or StoreDamaged; nothing is written then."""
        with self._lock:
            if self.stage is not Stage.WAITING:
                raise StoreError(
                    "a commit of the content database was begun anew before it ran, or ran twice"
                )
            self.stage = Stage.RUNNING
        try:
            if self.changes:
                with told(self._path, "write"):
                    self._write()
        except BaseException:
            self.stage = Stage.FAILED
            raise
        self.stage = Stage.DONE

    def abandon(self) -> bool:
        """Its changes go with the next commit. False if it is running, or has ended well."""
        with self._lock:
            if self.stage is Stage.WAITING:
                self.stage = Stage.ABANDONED
            return self.stage in (Stage.ABANDONED, Stage.FAILED)

    def _write(self) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            generations, back = self._write_rows()
            gone = self._drop_unnamed()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite may have ended it itself
                connection.execute("ROLLBACK")
            raise
        self.generations, self.dropped = generations, gone
        for object_id in back:
            self._gone.pop(object_id, None)
        self._gone.update(gone)
        while len(self._gone) > GONE_KEPT:
            self._gone.pop(next(iter(self._gone)))

    def _write_rows(self) -> tuple[dict[bytes, int], set[bytes]]:
        """Returns the generations written, and the objects that had no name and have one again."""
        changes, connection = self.changes, self._connection
        # In the order of the tables, which is quicker than the order of events.
        noted, forgotten = [], []
        back: set[bytes] = set()
        for folder in sorted(changes.entries):
            for text, object_id in changes.entries[folder].items():
                if object_id is None:
                    forgotten.append((folder, os.fsencode(text)))
                else:
                    noted.append((folder, os.fsencode(text), object_id))
                    if object_id in self._gone:
                        back.add(object_id)
        noted.sort()
        generations = {object_id: self._gone[object_id] for object_id in back}
        for object_id, generation in changes.generations.items():
            known = min(generation, GENERATION_MAX)
            generations[object_id] = max(known, generations.get(object_id, 0))
        connection.executemany(
            "INSERT INTO entries VALUES (?, ?, ?) ON CONFLICT (folder, text) DO UPDATE "
            "SET object = excluded.object WHERE object <> excluded.object",
            noted,
        )
        connection.executemany("DELETE FROM entries WHERE folder = ? AND text = ?", forgotten)
        connection.executemany(
            "INSERT INTO objects VALUES (?, ?, 0) ON CONFLICT (object) DO UPDATE "
            "SET generation = excluded.generation WHERE generation < excluded.generation",
            sorted(generations.items()),
        )
        # The triggers saw what lost a name that was in the database. Nor must anything stay of what
        # came and went between two commits, or was sealed once more after its last name had gone.
        came_and_went = changes.renamed.union(one for one in generations if one in self._gone)
        connection.executemany(
            "INSERT OR IGNORE INTO unnamed VALUES (?)", [(one,) for one in came_and_went]
        )
        connection.executemany(
            "INSERT INTO folders VALUES (?, ?) ON CONFLICT (folder) DO UPDATE "
            "SET reconciled = excluded.reconciled WHERE reconciled < excluded.reconciled",
            sorted(changes.folders.items()),
        )
        if changes.policies is not None:
            connection.execute("DELETE FROM policies")
            connection.executemany("INSERT INTO policies VALUES (?, ?, ?, ?)", changes.policies)
        connection.execute(
            "UPDATE meta SET unclean = coalesce(?, unclean), "
            "checkpoint = coalesce(?, checkpoint), committed = ?",
            (changes.unclean, changes.checkpoint, int(time.time())),
        )
        return generations, back

    def _drop_unnamed(self) -> dict[bytes, int]:
        """What no entry names any more goes, and in a folder that went, all its entries."""
        connection = self._connection
        dropped: dict[bytes, int] = {}
        connection.executemany(
            "DELETE FROM unnamed WHERE object = ?", [(one,) for one in self.changes.spared]
        )
        while True:
            connection.execute(
                "INSERT INTO gone SELECT object, coalesce(generation, 0) "
                "FROM unnamed LEFT JOIN objects USING (object) WHERE coalesce(names, 0) <= 0"
            )
            connection.execute("DELETE FROM unnamed")
            found = connection.execute("SELECT object, generation FROM gone").fetchall()
            if not found:
                return dropped
            dropped.update(found)
            connection.execute("DELETE FROM objects WHERE object IN (SELECT object FROM gone)")
            connection.execute("DELETE FROM folders WHERE folder IN (SELECT object FROM gone)")
            connection.execute("DELETE FROM entries WHERE folder IN (SELECT object FROM gone)")
            connection.execute("DELETE FROM gone")
