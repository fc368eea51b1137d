"""The content database from the store as it is now: what is there is trusted, once.

For a host that lost its database, or has none and wants a complete one. Whatever the store's owner
deleted, put back or slipped in before is accepted by it. Only what authenticates is noted with its
generation; the rest is counted, and is refused or learnt when it is opened.
"""

import base64
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import Final

from fsdriver import contentdb_file, pendingreplay
from fsdriver.contentdb_file import GENERATION_MAX, ID_SIZE, Meta, Row
from fsdriver.contentdb_transfer import known_policies, place_of
from fsdriver.errors import CkfsError, NameBindingMismatch, StoreDamaged, StoreError
from fsdriver.filereader import FileReader
from fsdriver.folder import Folder
from fsdriver.format.geometry import HEADER_SIZE
from fsdriver.knownentries import KnownEntries
from fsdriver.offline import OfflineStore
from fsdriver.storewalk import WalkedEntry, walk
from keyhierarchy.errors import KeyHierarchyError, RootKeyUnavailable, StorageUnavailable

PROBLEMS_KEPT: Final = 100
_KEYS_EVERY: Final = 1000
_TRY_AGAIN: Final = (RootKeyUnavailable, StorageUnavailable)
"""Not the store's fault: what cannot be opened now must not be taken for damaged."""


class NotReplayed(StoreError):
    """What a stopped driver wrote is not in its place yet, and so would not be noted."""

    exit_code = 30


@dataclass(slots=True)
class Counts:
    """What a rebuild found, and what it could not read."""

    entries: int = 0
    folders: int = 0
    symlinks: int = 0
    others: int = 0
    """FIFOs, sockets and device nodes."""
    foreign: int = 0
    """Entries whose names do not open: they are not noted."""
    unreadable: int = 0
    """Noted by name alone; of such a folder nothing that lies in it."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Place in the store and reason, of the first ones."""


def rebuild(store: OfflineStore, progress: Callable[[Counts], None]) -> Counts:
    """Write the database anew, complete. The store's lock must be held.

    Raises NotReplayed, StoreError, or an error of the key hierarchy if a key does not answer.
    """
    _require_replayed(store)
    work = _Rebuild(store, progress)
    contentdb_file.replace(
        place_of(store.host_folder),
        # No checkpoint is known: whichever the store names at the next mount is taken.
        Meta(store.store_id, complete=True),
        work.rows(),
    )
    return work.counts


def _require_replayed(store: OfflineStore) -> None:
    """But where no mount could put it in place before a rebuild was made."""
    try:
        known = KnownEntries.of(store)
    except StoreDamaged:
        return
    with closing(known) if known is not None else nullcontext():
        if pendingreplay.is_rolled_back(store, known):
            return
        if pendingreplay.left_by(store, store.unended(), known):
            raise NotReplayed(
                f"the last driver of {store.path} was stopped, and what it wrote last lies in the "
                "journal and not in its place: mount the store once, unmount it, and rebuild then"
            )


class _Rebuild:
    """One walk."""

    def __init__(self, store: OfflineStore, progress: Callable[[Counts], None]) -> None:
        self.store = store
        self.counts = Counts()
        self._progress = progress
        self._looked_at = 0
        self._unended = store.unended()
        """Sessions whose last headers may name what did not reach the disk."""

    def _step(self) -> None:
        if self._looked_at % _KEYS_EVERY == 0:
            self.store.keep_keys()
        self._looked_at += 1
        self._progress(self.counts)

    def rows(self) -> Iterator[Row]:
        """Policies first, then folder by folder."""
        for policy in known_policies(self.store.host_folder):
            yield "policies", policy
        named: dict[str, tuple[bytes, bytes]] = {}  # folders to come: folder above, backing name
        for walked in walk(self.store):
            self._step()
            folder = walked.folder if walked.problem is None else None
            above = named.pop(walked.place, None)
            if above is None and walked.place:
                continue  # in one that is not in its place, and may be there twice
            if above is not None:
                self.counts.entries += 1
                yield "entries", (*above, folder.record.directory_id if folder else b"")
            if folder is None:
                self._fail(walked.place, walked.problem)
                continue
            self.counts.folders += 1
            record = folder.record
            yield "folders", (record.directory_id, 0)
            yield "objects", (record.directory_id, min(record.generation, GENERATION_MAX))
            for entry in walked.entries:
                if entry.name is None:
                    self.counts.foreign += 1
                elif entry.kind == stat.S_IFDIR:
                    named[entry.place] = (record.directory_id, os.fsencode(entry.text))
                else:
                    self._step()
                    yield from self._entry(walked.descriptor, folder, entry)

    def _entry(self, descriptor: int, folder: Folder, entry: WalkedEntry) -> Iterator[Row]:
        object_id, generation = b"", 0
        try:
            if entry.kind == stat.S_IFREG:
                object_id, generation = self._file(descriptor, folder, entry)
            elif entry.kind == stat.S_IFLNK:
                object_id = self._symlink(descriptor, folder, entry)
                self.counts.symlinks += 1
            else:
                self.counts.others += 1
        except (CkfsError, KeyHierarchyError, OSError) as error:
            self._fail(entry.place, error)
        self.counts.entries += 1
        yield "entries", (folder.record.directory_id, os.fsencode(entry.text), object_id)
        if generation:
            yield "objects", (object_id, min(generation, GENERATION_MAX))

    def _file(self, folder_at: int, folder: Folder, entry: WalkedEntry) -> tuple[bytes, int]:
        """File id and generation of a header that is authentic and in its place; one less than that
        for one that a stop may have left out of step with its file.
        """
        backing = self.store.backing
        descriptor = backing.open_file(folder_at, entry.text, writable=False)
        try:
            raw = backing.read(descriptor, HEADER_SIZE, 0)
            reader = FileReader(backing, descriptor, raw, self.store.sites)
            state = reader.unseal()
        finally:
            backing.close(descriptor)
        if reader.clear.site_id != folder.record.site_id:
            raise NameBindingMismatch("the file belongs to another site than its folder")
        if entry.binding not in state.bindings and not state.unbound:
            raise NameBindingMismatch("the file was sealed under another name")
        # The mount that comes verifies what is newer than the host knows, and recovers it.
        doubtful = state.session in self._unended
        return reader.clear.file_id, state.generation - doubtful

    def _symlink(self, folder_at: int, folder: Folder, entry: WalkedEntry) -> bytes:
        """The synthetic IV of a target that is authentic and in its place."""
        text = self.store.backing.read_symlink(folder_at, entry.text)
        _target, bindings = folder.site.names.decrypt_target(text)
        if bindings and entry.binding not in bindings:
            raise NameBindingMismatch("the symlink was written under another name")
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[1 : 1 + ID_SIZE]

    def _fail(self, place: str, reason: Exception | None) -> None:
        if isinstance(reason, _TRY_AGAIN):
            raise reason
        self.counts.unreadable += 1
        if len(self.counts.problems) < PROBLEMS_KEPT:
            self.counts.problems.append((place or ".", str(reason)))
