"""The content database: what this host knows that a store holds, so that nothing can be taken out
of it, put back or slipped in unseen (FORMAT.md 12.1).

For each folder its entries, for each file and folder the newest generation. The store's owner can
delete, or put back what is older and authentic; only something outside the store remembers.

Noting touches memory only, and reading is one look-up, but for a folder that is not at hand, which
is loaded whole. What was noted is in the database when the commit that took it has ended, and no
sooner: a commit has to come after the sync of the store that it speaks of. All methods are the main
thread's; a commit is called on another.
"""

import sqlite3
import sys
from collections import OrderedDict
from collections.abc import Iterable
from itertools import repeat
from typing import Any, Final, Self

from fsdriver import contentdb_commit, contentdb_file
from fsdriver.contentdb_commit import Changes, Commit, Stage
from fsdriver.contentdb_file import FILE_NAME, ID_SIZE, KnownPolicy, Meta, damaged, told

__all__ = ["ENTRIES_HELD", "FILE_NAME", "ContentDatabase", "KnownPolicy"]

ENTRIES_HELD: Final = 200_000
"""Entries of folders in memory; about 300 bytes each."""
_FOLDERS_HELD: Final = 4
"""Folders in memory however large: a program that copies from one to another uses both."""
_GENERATIONS_HELD: Final = 32_768
_POLICY_SIZES: Final = (16, 32)
_OBJECT_SIZES: Final = frozenset({0, ID_SIZE})
_ROWS_AT_ONCE: Final = 1000
_GENERATION: Final = "SELECT generation FROM objects WHERE object = ?"
_GENERATIONS: Final = (
    "SELECT object, generation FROM entries CROSS JOIN objects USING (object) WHERE folder = ?"
)
_MISSES: Final = 4
"""Generations read one by one, before those of the whole folder are: each costs a tenth then."""
_FOLDER_AT_ONCE: Final = 4096
"""Entries of a folder for which that is done."""


class ContentDatabase:
    """Of one store, open for one driver. Hold the store's lock."""

    def __init__(self, path: str, store_id: bytes) -> None:
        """Use `open`."""
        self._path = path
        self._reader = contentdb_file.connect(path, store_id)
        try:
            self._writer = contentdb_file.connect(path, store_id)
            with told(path, "open"):
                contentdb_commit.prepare(self._writer)
                self._reader.execute("PRAGMA query_only = ON")
                meta = contentdb_file.read_meta(self._reader, path)
        except BaseException:
            self.close()
            raise
        self.store_id = store_id
        self.complete = meta.complete
        """Whether an entry that is not known was never made by a driver of this host."""
        self.unclean = meta.unclean
        """Unclean stops so far."""
        self.checkpoint = meta.checkpoint
        """The number of the newest one that a commit was begun with."""
        self._commit: Commit | None = None
        self._gone: dict[bytes, int] = {}
        self._folders: OrderedDict[bytes, dict[str, bytes]] = OrderedDict()
        self._newest_folder = b""
        """The one that was asked for last, and so is the last to go."""
        self._held = 0
        self._generations_held: dict[bytes, int] = {}
        self._misses = 0
        """Generations that were not held, since another folder was asked for."""
        self._take(Changes())

    def _take(self, pending: Changes) -> None:
        self._pending = pending
        self._entries = pending.entries
        self._generations = pending.generations
        self._renamed = pending.renamed

    @classmethod
    def open(cls, path: str, store_id: bytes, *, complete_if_new: bool) -> Self:
        """Open the database, made if there is none. Raises StoreDamaged, StoreError, NotPermitted.

        `complete_if_new`: whether a new one begins with the store's first file, so that whatever
        is not known was not written by this driver.
        """
        if not contentdb_file.require_private(path):
            contentdb_file.replace(path, Meta(store_id, complete_if_new), ())
        return cls(path, store_id)

    def close(self) -> None:
        """What no commit wrote is lost. No commit may be running."""
        for connection in (getattr(self, "_writer", None), self._reader):
            if connection is not None:
                connection.close()

    def begin_session(self, unclean: bool) -> None:
        """Once, at mount. After an unclean stop the whole file is checked: StoreDamaged."""
        if unclean:
            contentdb_file.check_structure(self._reader, self._path)
            self.unclean += 1
            self._pending.unclean = self.unclean

    # Entries

    def expected(self, folder_id: bytes) -> dict[str, bytes]:
        """Backing name -> object (empty: not opened yet). Do not change it, nor keep it."""
        known = self._folders.get(folder_id)
        if known is None:
            return self._load(folder_id)
        if folder_id != self._newest_folder:
            self._folders.move_to_end(folder_id)
            self._newest_folder = folder_id
            self._misses = 0
        return known

    def note_entry(self, folder_id: bytes, text: str, object_id: bytes) -> None:
        """An entry is there, or has another object. A rename notes the new one, then forgets the
        old one, with no commit in between: a folder without a name is forgotten with all in it.
        """
        texts = self._entries.get(folder_id)
        if texts is None:
            texts = self._entries[folder_id] = {}
        elif (before := texts.get(text)) and before != object_id:
            self._renamed.add(before)
        texts[text] = object_id
        known = self._folders.get(folder_id)
        if known is not None:
            held = len(known)
            known[text] = object_id
            self._held += len(known) - held

    def note_nameless(self, object_id: bytes) -> None:
        """A file has no name yet: what is known of it goes with the next commit if it gets none."""
        self._renamed.add(object_id)

    def forget_entry(self, folder_id: bytes, text: str) -> None:
        """An entry was removed by the driver. With its last name an object is forgotten, too."""
        texts = self._entries.get(folder_id)
        if texts is None:
            texts = self._entries[folder_id] = {}
        elif before := texts.get(text):
            self._renamed.add(before)
        texts[text] = None
        known = self._folders.get(folder_id)
        if known is not None and known.pop(text, None) is not None:
            self._held -= 1

    # Folders after an unclean stop

    def note_folder(self, folder_id: bytes) -> None:
        """A folder was made just now: there is nothing to reconcile in it."""
        self._pending.folders[folder_id] = self.unclean

    def needs_reconciling(self, folder_id: bytes) -> bool:
        """Whether the store's word counts once for this folder's entries.

        So after each unclean stop, and in a store that is still being learnt.
        """
        if self.complete and not self.unclean:
            return False
        for changes in self._uncommitted():
            if (at := changes.folders.get(folder_id)) is not None:
                return at < self.unclean
        with told(self._path, "read"):
            row = self._reader.execute(
                "SELECT reconciled FROM folders WHERE folder = ?", (folder_id,)
            ).fetchone()
        if row is None:
            return True
        if type(row[0]) is not int:
            raise damaged(self._path, "a folder's row holds what no ckfs writes")
        return row[0] < self.unclean

    def reconcile(self, folder_id: bytes, present: Iterable[str]) -> tuple[list[str], list[str]]:
        """Take the store's word for a folder's entries. Returns what was missing, what was added.

        A missing one's object stays known: it may have been renamed just before the stop.
        """
        known = self.expected(folder_id)
        found = set(present)
        missing = sorted(known.keys() - found)
        added = sorted(found - known.keys())
        for text in missing:
            self._pending.spared.add(known[text])
            self.forget_entry(folder_id, text)
        for text in added:
            self.note_entry(folder_id, text, b"")
        self._pending.folders[folder_id] = self.unclean
        return missing, added

    # Generations

    def note_new(self, object_id: bytes) -> None:
        """A file or folder was made just now under an id drawn for it: nothing is known of it."""
        self._hold(object_id, 0)
        self._generations[object_id] = 1

    def note_generation(self, object_id: bytes, generation: int) -> None:
        """A header or a folder's record was written or read. Never goes back."""
        if generation > self._generations.get(object_id, 0):
            self._generations[object_id] = generation

    def generation(self, object_id: bytes) -> int:
        """The newest known, committed or not; 0 if none is."""
        known = max(
            self.committed_generation(object_id),
            self._gone.get(object_id, 0),
            self._generations.get(object_id, 0),
        )
        if self._commit is not None:
            known = max(known, self._commit.changes.generations.get(object_id, 0))
        return known

    def committed_generation(self, object_id: bytes) -> int:
        """The newest that a commit made durable; 0 if none did."""
        if self._commit is not None:
            self._settle()
        held = self._generations_held
        known = held.get(object_id)
        if known is None:
            self._misses += 1
            folder = self._folders.get(self._newest_folder, {})
            if self._misses == _MISSES and len(folder) <= _FOLDER_AT_ONCE:
                for one, generation in self._read(_GENERATIONS, self._newest_folder):
                    if one not in held:
                        self._hold(one, generation)
            if object_id not in held:
                rows = self._read(_GENERATION, object_id)
                self._hold(object_id, rows[0][0] if rows else 0)
            known = held[object_id]
        return known

    def _read(self, query: str, key: bytes) -> list[tuple[Any, ...]]:
        """Rows of objects. To begin to read costs as much again: so once between commits."""
        reader = self._reader
        try:
            if self._commit is None and not reader.in_transaction:
                reader.execute("BEGIN")
            return reader.execute(query, (key,)).fetchall()
        except (sqlite3.Error, UnicodeDecodeError):
            with told(self._path, "read"):
                raise

    def _hold(self, object_id: bytes, generation: int) -> None:
        if type(generation) is not int or generation < 0:
            raise damaged(self._path, "an object's row holds what no ckfs writes")
        if len(self._generations_held) >= _GENERATIONS_HELD:
            self._generations_held.clear()
        self._generations_held[object_id] = generation

    # What goes with the next commit

    def note_policies(self, policies: Iterable[KnownPolicy]) -> None:
        """All policies that the anchor pins, in place of those of before."""
        self._pending.policies = tuple(sorted(policies))

    def policies(self) -> tuple[KnownPolicy, ...]:
        """Those noted last."""
        for changes in self._uncommitted():
            if changes.policies is not None:
                return changes.policies
        with told(self._path, "read"):
            rows = self._reader.execute(
                "SELECT policy_id, tik_generation, fingerprint, sealed_generation FROM policies "
                "ORDER BY policy_id"
            ).fetchall()
        known = tuple(KnownPolicy(*row) for row in rows)
        if any((len(one.policy_id), len(one.fingerprint)) != _POLICY_SIZES for one in known):
            raise damaged(self._path, "a policy's row holds what no ckfs writes")
        return known

    @property
    def pending(self) -> bool:
        """Whether anything was noted that no commit has written or is to write."""
        failed = self._commit is not None and self._commit.stage is Stage.FAILED
        return failed or bool(self._pending)

    def begin_commit(self, checkpoint: int | None = None) -> Commit:
        """Take what is pending. Calling the result writes it in one durable transaction.

        Call it once, on another thread, after the store was synced; or abandon it. If it raises,
        or has not run when the next one is begun, its changes go with that one, below newer ones.
        `checkpoint` is the number of the checkpoint in the store that this commit belongs to.
        """
        self._settle()
        self._stop_reading()
        before = self._commit
        pending = self._pending
        if before is not None:
            if not before.abandon():
                raise RuntimeError("one commit at a time")
            before.changes.add(pending)
            pending = before.changes
        if checkpoint is not None:
            self.checkpoint = pending.checkpoint = checkpoint
        self._commit = Commit(self._writer, self._path, pending, self._gone)
        self._take(Changes())
        return self._commit

    def _settle(self) -> None:
        """A commit that ended well has nothing uncommitted left."""
        commit = self._commit
        if commit is None or commit.stage is not Stage.DONE:
            return
        self._commit = None
        held = self._generations_held
        for object_id, generation in commit.generations.items():
            known = held.get(object_id)
            if known is not None and known < generation:
                held[object_id] = generation
        for object_id in commit.dropped:
            if object_id in held:
                held[object_id] = 0

    def _stop_reading(self) -> None:
        """A commit must be seen, and SQLite's log of changes grows as long as somebody reads."""
        if self._reader.in_transaction:
            with told(self._path, "read"):
                self._reader.execute("COMMIT")

    def _uncommitted(self) -> tuple[Changes, ...]:
        """Newest first."""
        if self._commit is None:
            return (self._pending,)
        return self._pending, self._commit.changes

    # What is in memory

    @property
    def held(self) -> dict[str, int]:
        """How many entries of folders, and how many generations."""
        return {"entries": self._held, "generations": len(self._generations_held)}

    def _load(self, folder_id: bytes) -> dict[str, bytes]:
        # Before the database is read: a commit that ends meanwhile says the same once more.
        uncommitted = self._uncommitted()
        known: dict[str, bytes] = {}
        with told(self._path, "read"):
            rows = self._reader.execute(
                "SELECT text, object FROM entries WHERE folder = ?", (folder_id,)
            )
            # In parts: of a folder of 100,000 entries all rows at once are 20 MB more.
            while part := rows.fetchmany(_ROWS_AT_ONCE):
                known.update(self._checked(part))
        for changes in reversed(uncommitted):
            for text, object_id in changes.entries.get(folder_id, {}).items():
                if object_id is None:
                    known.pop(text, None)
                else:
                    known[text] = object_id
        self._folders[folder_id] = known
        self._newest_folder = folder_id
        self._misses = 0
        self._held += len(known)
        while self._held > ENTRIES_HELD and len(self._folders) > _FOLDERS_HELD:
            _folder, oldest = self._folders.popitem(last=False)
            self._held -= len(oldest)
        return known

    def _checked(self, rows: list[tuple[bytes, bytes]]) -> Iterable[tuple[str, bytes]]:
        """Rows of a folder as they are kept."""
        texts = [row[0] for row in rows]
        objects = [row[1] for row in rows]
        kinds = {*map(type, texts), *map(type, objects)}
        if kinds != {bytes} or not set(map(len, objects)) <= _OBJECT_SIZES:
            raise damaged(self._path, "an entry holds what no ckfs writes")
        # As os.fsdecode does it, without a call in Python for each.
        encoding, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
        return zip(map(str, texts, repeat(encoding), repeat(errors)), objects, strict=True)
