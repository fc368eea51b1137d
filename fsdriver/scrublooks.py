"""One look at one thing in a store, and what is wrong with it: file, folder, symlink, name.

Each look stands alone and can be taken again, since beside a live mount the first one may have come
in the middle of a change. Compares with what the host knows; counts nothing, decides no order.
"""

import base64
import os
from contextlib import suppress
from typing import Final

from fsdriver import pendingreplay
from fsdriver.errors import CkfsError, NameBindingMismatch, NameInvalid
from fsdriver.filecheck import Sink, Spend, check_file
from fsdriver.findings import RESTORE, FileReport, FileTask, Finding, Verdict
from fsdriver.folder import LONG_ENTRY, Folder
from fsdriver.knownentries import KnownEntries
from fsdriver.offline import OfflineStore
from fsdriver.scrubnames import MOVE_AWAY, NameLooks, folder_record
from fsdriver.scrubwords import below, in_use, of, reclassified, told_by
from fsdriver.storewalk import WalkedEntry, WalkedFolder
from keyhierarchy import errors as keys

_EXCHANGED: Final = "it is authentic, but another one than this host knows under this name"
_UNKNOWN: Final = (
    "this host does not know this entry: it was deleted once, or is of another time or host, and "
    "was put here in the store"
)
_MOUNT_ONCE: Final = "mount the store once: what a stopped driver left is put right"


class Looks:
    """The looks of one scrub at one time. `known` is None where there is no content database."""

    def __init__(self, store: OfflineStore, known: KnownEntries | None, spend: Spend) -> None:
        self._store = store
        self._known = known
        self._spend = spend
        self.mounted = store.is_mounted()
        self.was_killed = store.was_killed()
        self._unended = store.unended()
        self.names = NameLooks(store, spend, mounted=self.mounted)
        self._waiting = pendingreplay.waiting(store, known, at_work=self.mounted or self.was_killed)

    # Files

    def file(
        self,
        folder: Folder | None,
        entry: WalkedEntry,
        *,
        content: bool = True,
        sink: Sink | None = None,
    ) -> FileReport:
        """A file under a name that its folder wrote; without a folder its place is not checked."""
        task = FileTask(
            place=entry.place,
            path=entry.path,
            binding=entry.binding,
            site_id=folder.site.lease.site_id if folder else b"",
            content=content,
        )
        report = check_file(self._store, task, self._spend, sink)
        if report.gone:
            return report
        if report.is_authentic:
            moved = any(one.kind == "moved" for one in report.findings)
            if moved and folder is not None and folder.plaintext_names:
                self.names.plain_copy(folder, entry, report)
            report.findings += self._older(
                entry, bytes.fromhex(report.file_id), report.generation, "it"
            )
        report.findings = [self._weighed(one, report, folder, entry) for one in report.findings]
        file_id = bytes.fromhex(report.file_id)
        report.findings = self._against_known(folder, entry, file_id or None, report.findings)
        return report

    def _weighed(
        self, finding: Finding, report: FileReport, folder: Folder | None, entry: WalkedEntry
    ) -> Finding:
        """What a driver at work, or one that was stopped, leaves is nobody's fault."""
        if finding.verdict not in ("damaged", "forged"):
            return finding
        unfinished = (
            self._is_unfinished(finding, report)
            if report.is_authentic
            else report.blank and self._is_unborn(folder, entry)
        )
        if not unfinished and not (self.mounted and report.changed):
            return finding
        if self.mounted:
            return in_use(finding)
        return reclassified(finding, "pending", _MOUNT_ONCE)

    def _is_unfinished(self, finding: Finding, report: FileReport) -> bool:
        """As the driver itself decides what a stop may have left (FORMAT.md 12.3)."""
        file_id = bytes.fromhex(report.file_id)
        if file_id in self._waiting:
            return True
        if finding.kind == "extended":
            return bool(self._unended)  # written, and not sealed any more
        if finding.kind == "rolled-back" or bytes.fromhex(report.session) not in self._unended:
            return False
        if self._known is None:
            return report.unsealed and finding.kind != "moved"
        # A seal that is known to have been durable was followed by nothing that may be missing.
        return report.dirty or report.generation > self._newest(file_id)

    def _is_unborn(self, folder: Folder | None, entry: WalkedEntry) -> bool:
        """Whether a driver may have stopped, or be, between a file's making and its header."""
        if not self._unended:
            return False
        if self._known is None or folder is None:
            return True
        expected = self._known.object_of(folder.record.directory_id, entry.text)
        return not expected or not self._newest(expected)

    def _newest(self, object_id: bytes) -> int:
        return self._known.committed_generation(object_id) if self._known else 0

    def _older(
        self, entry: WalkedEntry, object_id: bytes, generation: int, what: str
    ) -> list[Finding]:
        newest = self._newest(object_id)
        if generation >= newest:
            return []
        message = (
            f"{what} was put back to an older state: generation {generation}, this host knows "
            f"generation {newest}"
        )
        return [of(entry, "forged", "rolled-back", message)]

    # What the content database knows of an entry

    def _against_known(
        self,
        folder: Folder | None,
        entry: WalkedEntry,
        object_id: bytes | None,
        findings: list[Finding],
    ) -> list[Finding]:
        """`object_id` is None for one that did not authenticate."""
        is_told = any(one.verdict == "foreign" for one in findings)
        if self._known is None or folder is None or entry.name is None or is_told:
            return findings
        folder_id = folder.record.directory_id
        expected = self._known.object_of(folder_id, entry.text)
        if expected is None and self._known.complete:
            if object_id is None and folder.plaintext_names:
                # Every name is one here: what nobody knows and no key opens is not ours.
                return [of(entry, "foreign", "foreign", "it was not written by ckfs", MOVE_AWAY)]
            verdict, remedy = self._difference(folder_id)
            return [*findings, of(entry, verdict, "unknown", _UNKNOWN, remedy)]
        moved = any(one.kind == "moved" for one in findings)
        if expected and object_id and expected != object_id and not moved:
            verdict, remedy = self._difference(folder_id)
            return [*findings, of(entry, verdict, "exchanged", _EXCHANGED, remedy)]
        return findings

    def _difference(self, folder_id: bytes) -> tuple[Verdict, str]:
        """What a difference between folder and content database means."""
        if self.was_killed or (self._known and self._known.needs_reconciling(folder_id)):
            return "pending", "mount the store once: after an unclean stop its word is taken"
        return "forged", RESTORE

    def deleted(self, walked: WalkedFolder) -> list[Finding]:
        """What the host knows and is not there."""
        folder = walked.folder
        if self._known is None or folder is None:
            return []
        folder_id = folder.record.directory_id
        if not self._known.complete and self._known.needs_reconciling(folder_id):
            return []
        missing = self._known.expected(folder_id).keys() - {one.text for one in walked.entries}
        if not missing:
            return []
        try:
            descriptor = self._store.open_folder(walked.place)
        except OSError:
            return []  # it is the folder itself that is missing, and that is told above
        try:
            missing -= {text for text, _kind in self._store.backing.entries(descriptor)}
        finally:
            self._store.backing.close(descriptor)
        verdict, remedy = self._difference(folder_id)
        return [
            Finding(
                verdict=verdict,
                kind="deleted",
                place=below(walked.place, text),
                path=self._path_of(walked, folder, text),
                message="this host knows an entry here that was deleted in the store",
                remedy=remedy,
            )
            for text in sorted(missing)
        ]

    def _path_of(self, walked: WalkedFolder, folder: Folder, text: str) -> str:
        above = walked.path.rstrip("/")
        with suppress(CkfsError, keys.KeyHierarchyError, OSError):
            if not text.startswith(LONG_ENTRY):
                name, _known = folder.name_of(self._store.backing, text)
                return f"{above}/{os.fsdecode(name)}"
        return f"{above}/{text}"

    # Symlinks and nodes

    def symlink(self, folder: Folder, entry: WalkedEntry) -> list[Finding]:
        """A symlink under a name that its folder wrote."""
        findings: list[Finding] = []
        object_id = None
        try:
            text = self._store.read_symlink(entry.place)
            _target, bindings = folder.site.names.decrypt_target(text)
            object_id = _symlink_object(text)
            if bindings and entry.binding not in bindings:
                raise NameBindingMismatch(
                    "the symlink was written under another name: it was moved or swapped in the "
                    "store"
                )
        except FileNotFoundError:
            return []
        except NameBindingMismatch as error:
            findings = [of(entry, "forged", "moved", str(error))]
        except NameInvalid as error:
            findings = [of(entry, "damaged", "symlink", str(error))]
        except (OSError, keys.KeyHierarchyError) as error:
            findings = [of(entry, *told_by(error))]
        return self._against_known(folder, entry, object_id, findings)

    def node(self, folder: Folder, entry: WalkedEntry) -> list[Finding]:
        """A FIFO, socket or device node has no content; only its being there can be wrong."""
        if self._known is not None:
            expected = self._known.object_of(folder.record.directory_id, entry.text)
            if expected and self._newest(expected):
                verdict, remedy = self._difference(folder.record.directory_id)
                message = "a device, FIFO or socket lies where a file or folder was"
                return [of(entry, verdict, "planted", message, remedy)]
        return self._against_known(folder, entry, b"", [])

    # Folders

    def folder(self, entry: WalkedEntry, above: Folder | None) -> list[Finding]:
        """The record of a folder; `entry` stands for its name, `above` is the one it lies in."""
        try:
            record, findings = folder_record(self._store, entry, above)
        except FileNotFoundError:
            return []
        except (CkfsError, keys.KeyHierarchyError, OSError) as error:
            findings = [of(entry, *told_by(error))]
            return self._against_known(above, entry, None, findings)
        findings += self._older(entry, record.directory_id, record.generation, "its record")
        return self._against_known(above, entry, record.directory_id, findings)


def _symlink_object(text: str) -> bytes:
    """What stands for a symlink in the content database: the synthetic IV of its target."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[1:17]
