"""`ckfs scrub --repair`: what to move out of the way, and moving it, so that nothing is lost.

Entries that cannot be used go to `.ckfs/quarantine/<time>/`, whole and unchanged, with a manifest
that says where each lay; only a driver's temporary that is provably empty is removed. How things
are put back is in FORMAT.md section 1.
"""

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Literal

import msgspec

from fsdriver.backing import RENAME_NOREPLACE
from fsdriver.contentdb import FILE_NAME, ContentDatabase
from fsdriver.errors import StoreError
from fsdriver.findings import Finding
from fsdriver.folder import CONTROL_FOLDER, LONG_ENTRY, LONG_NAME
from fsdriver.format.directory import RECORD_NAME
from fsdriver.format.geometry import HEADER_SIZE
from fsdriver.offline import OfflineStore
from fsdriver.scrub import ScrubReport
from fsdriver.storewalk import open_folder_record

FOLDER: Final = "quarantine"
MANIFEST: Final = "manifest.json"

_MOVED_KINDS: Final = frozenset(
    {
        *("header", "chunks", "chunks-moved", "chunk-set", "cut", "extended", "extent-map"),
        *("unsealed", "foreign-store", "moved", "exchanged", "rolled-back", "unknown"),
        *("planted", "symlink", "directory-record", "sidecar", "sidecar-lost"),
        *("foreign", "conflict-copy", "temporary", "sidecar-orphan"),
    }
)
"""What is left where it is: `attribute` and `copied`, which the mount can put right; `unreadable`,
which a disk may yet give back; `keystore` and its like, which only a backup can."""

_MOVED_VERDICTS: Final = ("damaged", "forged", "foreign", "leftover")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a repair does."""

    action: Literal["quarantine", "remove", "forget"]
    """remove: an empty temporary. forget: an entry that is gone is expected no longer."""
    place: str
    path: str
    why: str


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a manifest."""

    place: str
    """Where it lay, relative to the store."""
    path: str
    """In the mount."""
    name: str
    """Its name in this folder."""
    why: str


class Manifest(msgspec.Struct, kw_only=True):
    """What one repair moved away."""

    format: int = 1
    store_id: str
    created: str
    entries: list[Moved] = []


def plan(store: OfflineStore, report: ScrubReport) -> list[Step]:
    """What would be done about a report's findings, in this order; changes nothing."""
    steps: list[Step] = []
    taken: list[str] = []
    for finding in sorted(report.findings, key=lambda one: one.place):
        if finding.verdict not in _MOVED_VERDICTS or not finding.place:
            continue
        if any(finding.place == one or finding.place.startswith(f"{one}/") for one in taken):
            continue  # goes with the folder above it
        why = f"{finding.verdict}, {finding.kind}: {finding.message}"
        if finding.kind == "deleted":
            action: Literal["quarantine", "remove", "forget"] = "forget"
        elif finding.kind in _MOVED_KINDS and not _is_control(finding):
            action = "remove" if _is_empty_temporary(store, finding) else "quarantine"
            taken.append(finding.place)
        else:
            continue
        steps.append(Step(action=action, place=finding.place, path=finding.path, why=why))
    return steps


def _is_control(finding: Finding) -> bool:
    first = finding.place.split("/", 1)[0]
    return first == CONTROL_FOLDER or finding.place == RECORD_NAME


def _is_empty_temporary(store: OfflineStore, finding: Finding) -> bool:
    """A file without a byte behind its header, or a folder with nothing but its record."""
    if finding.kind != "temporary":
        return False
    with suppress(OSError):
        status = store.stat(finding.place)
        if stat.S_ISREG(status.st_mode):
            return status.st_size in (0, HEADER_SIZE)
        if stat.S_ISDIR(status.st_mode):
            descriptor = store.open_folder(finding.place)
            try:
                return {text for text, _kind in store.backing.entries(descriptor)} <= {RECORD_NAME}
            finally:
                store.backing.close(descriptor)
    return False


class Repair:
    """Does a plan's steps. The caller holds the store's lock."""

    def __init__(self, store: OfflineStore, created: str) -> None:
        """`created` names the quarantine's folder, made when something is moved there."""
        self._store = store
        self._backing = store.backing
        self.manifest = Manifest(store_id=store.store_id.hex(), created=created)
        self.place = f"{CONTROL_FOLDER}/{FOLDER}/{created.replace(':', '')}"
        self._folder = -1
        self._database: ContentDatabase | None = None

    def run(self, steps: Iterable[Step]) -> list[str]:
        """Do them; returns what could not be done. What was done before stays done."""
        failed = []
        path = os.path.join(self._store.host_folder, FILE_NAME)
        try:
            if os.path.lexists(path):
                self._database = ContentDatabase.open(
                    path, self._store.store_id, complete_if_new=False
                )
            for step in steps:
                try:
                    self._do(step)
                except OSError as error:
                    failed.append(f"{step.place}: {error.strerror}")
            if self._database is not None:
                self._database.begin_commit()()
        finally:
            if self._database is not None:
                self._database.close()
            if self._folder >= 0:
                self._backing.close(self._folder)
        return failed

    def _do(self, step: Step) -> None:
        above, _slash, text = step.place.rpartition("/")
        if step.action != "forget":
            folder = self._store.open_folder(above)
            try:
                if step.action == "remove":
                    self._remove(folder, text)
                else:
                    self._move(folder, text, step)
                self._backing.sync(folder)
            finally:
                self._backing.close(folder)
        self._forget(above, text)

    def _remove(self, folder: int, text: str) -> None:
        if not stat.S_ISDIR(self._backing.stat(folder, text).st_mode):
            self._backing.unlink(folder, text)
            return
        inner = self._backing.open_directory(folder, text)
        try:
            with suppress(FileNotFoundError):
                self._backing.unlink(inner, RECORD_NAME)
        finally:
            self._backing.close(inner)
        self._backing.remove_directory(folder, text)

    def _move(self, folder: int, text: str, step: Step) -> None:
        """The manifest is on the disk before the entry moves: it never lies there unexplained."""
        if self._folder < 0:
            self._folder = self._make_folder()
        self._move_one(folder, text, step)
        sidecar = LONG_NAME + text.removeprefix(LONG_ENTRY)
        if text.startswith(LONG_ENTRY):
            with suppress(FileNotFoundError):
                self._backing.stat(folder, sidecar)
                above = step.place.removesuffix(text)
                self._move_one(
                    folder,
                    sidecar,
                    msgspec.structs.replace(
                        step, place=above + sidecar, why="the name of the entry before it"
                    ),
                )

    def _move_one(self, folder: int, text: str, step: Step) -> None:
        self._backing.stat(folder, text)
        name = f"{len(self.manifest.entries) + 1:06}"
        self.manifest.entries.append(
            Moved(place=step.place, path=step.path, name=name, why=step.why)
        )
        try:
            self._write_manifest()
            self._backing.rename(folder, text, self._folder, name, RENAME_NOREPLACE)
        except OSError:
            self.manifest.entries.pop()
            raise
        self._backing.sync(self._folder)

    def _make_folder(self) -> int:
        descriptor = self._store.open_folder(CONTROL_FOLDER)
        for text in self.place.split("/")[1:]:
            try:
                with suppress(FileExistsError):
                    self._backing.make_directory(descriptor, text, 0o700)
                    self._backing.sync(descriptor)
                below = self._backing.open_directory(descriptor, text)
            finally:
                self._backing.close(descriptor)
            descriptor = below
        if list(self._backing.entries(descriptor)):
            self._backing.close(descriptor)
            raise StoreError(f"{self.place} is there already; try again in a second")
        return descriptor

    def _write_manifest(self) -> None:
        new = f"{MANIFEST}.new"
        with suppress(FileNotFoundError):
            self._backing.unlink(self._folder, new)
        descriptor = self._backing.create_file(self._folder, new, 0o600)
        try:
            text = msgspec.json.format(msgspec.json.encode(self.manifest), indent=2) + b"\n"
            self._backing.write(descriptor, [text], 0)
            self._backing.sync(descriptor)
        finally:
            self._backing.close(descriptor)
        self._backing.rename(self._folder, new, self._folder, MANIFEST)
        self._backing.sync(self._folder)

    def _forget(self, above: str, text: str) -> None:
        """The host no longer expects the entry: the loss is accepted."""
        if self._database is None:
            return
        try:
            descriptor = self._store.open_folder(above)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        try:
            folder, _moved = open_folder_record(
                self._backing,
                descriptor,
                self._store.sites,
                plaintext_names=self._store.plaintext_names,
                above=None,
                binding=None,
            )
        finally:
            self._backing.close(descriptor)
        folder_id = folder.record.directory_id
        if text in self._database.expected(folder_id):
            self._database.forget_entry(folder_id, text)
