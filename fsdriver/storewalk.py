"""A walk through a store, folder by folder, with keys and without a mount.

Gives each folder's verified record and what lies in it: readable names, unreadable ones with the
reason, and the driver's own entries. Damage in one place does not end the walk, and no symlink is
followed. Opens no file; filecheck.py does.
"""

import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fsdriver.backing import Backing
from fsdriver.errors import CkfsError, DirectoryRecordInvalid, NameInvalid
from fsdriver.folder import LONG_ENTRY, Folder, Site, foreign_name, read_record
from fsdriver.format import directory
from fsdriver.format.directory import DirectoryRecord
from fsdriver.format.names import RESERVED
from fsdriver.offline import OfflineStore
from keyhierarchy.errors import KeyHierarchyError


class FolderMoved(DirectoryRecordInvalid):
    """A folder's record is authentic, but not in this place."""


class WalkedEntry(NamedTuple):
    """One entry that is, or should be, a name of the mount."""

    text: str
    """Its backing name."""
    kind: int
    """S_IFREG, S_IFDIR, S_IFLNK, or 0 for a FIFO, socket or device node."""
    place: str
    """Where it lies, relative to the store."""
    path: str
    """Its path in the mount, from /; a name that is not readable is shown as the mount shows it."""
    name: bytes | None = None
    """None for one that this folder did not write, or whose folder's record does not open."""
    binding: bytes | None = None
    """16 bytes; what its header, record or symlink has to name. None with the name."""
    problem: str = ""
    """Why there is no name."""


class WalkedFolder(NamedTuple):
    """One folder of the store; its descriptor is open until the walk goes on."""

    place: str
    path: str
    descriptor: int
    """-1 for a folder that could not be opened."""
    folder: Folder | None
    """Verified; None when its record does not open, and then no entry has a name."""
    problem: Exception | None
    """FolderMoved comes with a folder: its record is authentic, its place is not. Not checked where
    the folder's own name is unreadable: the entry in the folder above says so."""
    entries: list[WalkedEntry]
    """Sorted by backing name."""
    own: list[str]
    """Backing names of the driver's own entries: record, sidecars, temporaries; sorted."""


class _Waiting(NamedTuple):
    place: str
    path: str
    site: Site | None
    """Of the folder above; None if that is not known, and then place and border go unchecked."""
    binding: bytes | None


def walk(store: OfflineStore) -> Iterator[WalkedFolder]:
    """Every folder of a store, the root first, a folder before those in it."""
    waiting = [_Waiting("", "/", None, directory.ROOT_BINDING)]
    while waiting:
        next_one = waiting.pop()
        try:
            descriptor = store.open_folder(next_one.place)
        except OSError as error:
            yield WalkedFolder(next_one.place, next_one.path, -1, None, error, [], [])
            continue
        try:
            walked = _look(store, next_one, descriptor)
            yield walked
        finally:
            store.backing.close(descriptor)
        site = walked.folder.site if walked.folder else None
        waiting += (
            _Waiting(entry.place, entry.path, site, entry.binding)
            for entry in reversed(walked.entries)
            if entry.kind == stat.S_IFDIR
        )


def _look(store: OfflineStore, waiting: _Waiting, descriptor: int) -> WalkedFolder:
    folder: Folder | None = None
    problem: Exception | None = None
    try:
        folder, problem = open_folder_record(
            store.backing,
            descriptor,
            store.sites,
            plaintext_names=store.plaintext_names,
            above=waiting.site,
            binding=waiting.binding,
            is_root=not waiting.place,
        )
    except (CkfsError, KeyHierarchyError, OSError) as error:
        problem = error
    entries, own = [], []
    try:
        listed = sorted(store.backing.entries(descriptor))
    except OSError as error:
        listed, problem = [], problem or error
    for text, kind in listed:
        if text.startswith(RESERVED) and not text.startswith(LONG_ENTRY):
            own.append(text)
        else:
            entries.append(_entry(store.backing, waiting, folder, text, kind))
    return WalkedFolder(waiting.place, waiting.path, descriptor, folder, problem, entries, own)


def _entry(
    backing: Backing, waiting: _Waiting, folder: Folder | None, text: str, kind: int
) -> WalkedEntry:
    place = f"{waiting.place}/{text}" if waiting.place else text
    above = waiting.path.rstrip("/")
    foreign = f"{above}/{os.fsdecode(foreign_name(text))}"
    if folder is None:
        why = "the record of its folder does not open"
        return WalkedEntry(text, kind, place, foreign, problem=why)
    try:
        name, known = folder.name_of(backing, text)
    except (NameInvalid, KeyHierarchyError) as error:
        return WalkedEntry(text, kind, place, foreign, problem=str(error))
    except OSError as error:
        why = f"its name cannot be read: {error.strerror}"
        return WalkedEntry(text, kind, place, foreign, problem=why)
    return WalkedEntry(text, kind, place, f"{above}/{os.fsdecode(name)}", name, known.binding)


def open_folder_record(
    backing: Backing,
    descriptor: int,
    sites: Callable[[bytes], Site],
    *,
    plaintext_names: bool,
    above: Site | None,
    binding: bytes | None,
    is_root: bool = False,
) -> tuple[Folder, FolderMoved | None]:
    """Verify the record of an open backing folder; the second value says that its place is wrong.

    `above` is the site of the folder that it lies in, `binding` that of its name there. What is
    None is not checked. Raises DirectoryRecordInvalid, FormatUnsupported, OSError, or an error of
    the key hierarchy.
    """
    raw = read_record(backing, descriptor)
    site_id = directory.site_of(raw)
    site = above if above is not None and site_id == above.lease.site_id else sites(site_id)
    record = directory.unseal(raw, site.names.directory_records)
    folder = Folder(descriptor, site, record, plaintext_names=plaintext_names)
    crosses = is_root or (above is not None and site is not above)
    return folder, _misplaced(record, site, crosses=crosses, binding=binding)


def _misplaced(
    record: DirectoryRecord, site: Site, *, crosses: bool, binding: bytes | None
) -> FolderMoved | None:
    if crosses and record.directory_id != site.lease.root_directory_id:
        return FolderMoved(
            f"the folder belongs to site {record.site_id.hex()} but is not where that site begins: "
            "it was moved here in the store"
        )
    if binding is not None and binding not in record.bindings:
        return FolderMoved(
            "the folder was sealed under another name: it was moved or swapped in the store"
        )
    return None
