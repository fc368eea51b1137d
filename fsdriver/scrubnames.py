"""Names in a store that no folder wrote, and the driver's own: whose they are, and what to do.

A sync client's conflict copy and a planted file are told from something authentic that was moved.
"""

import os
import re
import stat
from contextlib import suppress
from typing import Final

from fsdriver import conflictcopies
from fsdriver.errors import CkfsError, NameInvalid
from fsdriver.filecheck import Spend, bad_attributes, check_file
from fsdriver.findings import FileReport, FileTask, Finding
from fsdriver.folder import LONG_ENTRY, LONG_NAME, TEMPORARY, Folder
from fsdriver.format.directory import RECORD_NAME, DirectoryRecord
from fsdriver.format.names import RESERVED
from fsdriver.offline import OfflineStore
from fsdriver.scrubwords import below, content_of, copy_of, leftover, of, told_by
from fsdriver.storewalk import WalkedEntry, WalkedFolder, open_folder_record
from keyhierarchy import errors as keys

_LONG_FORM: Final = re.compile(re.escape(LONG_ENTRY) + "[0-9a-v]{52}")
MOVE_AWAY: Final = "move it out of the store, or let `ckfs scrub --repair` do that"


class NameLooks:
    """The looks at names of one scrub."""

    def __init__(self, store: OfflineStore, spend: Spend, *, mounted: bool) -> None:
        self._store = store
        self._spend = spend
        self._mounted = mounted

    def unnamed(self, walked: WalkedFolder, folder: Folder, entry: WalkedEntry) -> list[Finding]:
        """An entry whose name its folder did not write."""
        try:
            descriptor = self._store.open_folder(walked.place)
        except OSError:
            return []  # gone, or told as what it is
        here = Folder(
            descriptor, folder.site, folder.record, plaintext_names=folder.plaintext_names
        )
        try:
            return self._unnamed_in(walked, here, entry)
        except FileNotFoundError:
            return []
        except keys.KeyHierarchyError as error:
            return [of(entry, *told_by(error))]
        finally:
            self._store.backing.close(descriptor)

    def _unnamed_in(
        self, walked: WalkedFolder, folder: Folder, entry: WalkedEntry
    ) -> list[Finding]:
        backing = self._store.backing
        backing.stat(folder.descriptor, entry.text)
        with suppress(NameInvalid, OSError):
            folder.name_of(backing, entry.text)
            return []  # its sidecar has come meanwhile
        if _LONG_FORM.fullmatch(entry.text):
            sidecar = LONG_NAME + entry.text.removeprefix(LONG_ENTRY)
            kind = "sidecar" if sidecar in walked.own else "sidecar-lost"
            remedy = f"restore {sidecar} beside it from a backup; `ckfs salvage` reads its content"
            return [of(entry, "damaged", kind, entry.problem, remedy)]
        copy = self._conflict_copy(walked, folder, entry)
        if copy is not None:
            return [copy]
        if self._is_ours(folder, entry):
            message = (
                "it is authentic, but its name is not one of this folder's: it was moved, renamed "
                "or copied here in the store"
            )
            return [of(entry, "forged", "moved", message)]
        return [of(entry, "foreign", "foreign", "it was not written by ckfs", MOVE_AWAY)]

    def _conflict_copy(
        self, walked: WalkedFolder, folder: Folder, entry: WalkedEntry
    ) -> Finding | None:
        if entry.kind != stat.S_IFREG:
            return None
        for client, original in conflictcopies.candidates(entry.text):
            if original == RECORD_NAME or original.startswith(LONG_NAME):
                return copy_of(entry, client, f"the driver's own {original}")
            try:
                name, known = folder.name_of(self._store.backing, original)
            except (NameInvalid, OSError):
                continue
            task = FileTask(place=entry.place, path=entry.path, binding=known.binding)
            report = check_file(self._store, task, self._spend)
            path = walked.path.rstrip("/") + "/" + os.fsdecode(name)
            return copy_of(entry, client, f"{path}; {content_of(report)}")
        return None

    def _is_ours(self, folder: Folder, entry: WalkedEntry) -> bool:
        """Whether something under a foreign name is authentic by itself."""
        with suppress(CkfsError, keys.KeyHierarchyError, OSError):
            if entry.kind == stat.S_IFREG:
                task = FileTask(place=entry.place, path=entry.path, content=False)
                return check_file(self._store, task).is_authentic
            if entry.kind == stat.S_IFLNK:
                folder.site.names.decrypt_target(self._store.read_symlink(entry.place))
                return True
            if entry.kind == stat.S_IFDIR:
                folder_record(self._store, entry._replace(binding=None), None)
                return True
        return False

    def own(self, walked: WalkedFolder) -> list[Finding]:
        """Temporaries, sidecars without an entry, and names that no driver gives."""
        texts = {entry.text for entry in walked.entries}
        findings = []
        for text in walked.own:
            entry = WalkedEntry(text, 0, below(walked.place, text), "")
            if text == RECORD_NAME or (not walked.place and text == RESERVED):
                continue
            if text.startswith(TEMPORARY):
                if not self._mounted:  # else it is the running driver's, for a moment
                    message = "a temporary of a driver that was stopped"
                    findings.append(leftover(entry, "temporary", message))
            elif text.startswith(LONG_NAME):
                if LONG_ENTRY + text.removeprefix(LONG_NAME) not in texts and not self._mounted:
                    message = "the name of an entry that is not there"
                    findings.append(leftover(entry, "sidecar-orphan", message))
            else:
                copies = conflictcopies.candidates(text)
                client = next((one for one, original in copies if original in walked.own), "")
                if client:
                    findings.append(copy_of(entry, client, "the driver's own file of that name"))
                else:
                    message = "a name that only the driver gives, and not by it"
                    findings.append(of(entry, "foreign", "foreign", message, MOVE_AWAY))
        return findings

    def plain_copy(self, folder: Folder, entry: WalkedEntry, report: FileReport) -> None:
        """With plaintext names a client's copy has a name, and is bound to the original's."""
        for client, original in conflictcopies.candidates(entry.text):
            with suppress(OSError, keys.KeyHierarchyError):
                if folder.backing_name(os.fsencode(original)).binding in report.bindings:
                    rest = [one for one in report.findings if one.kind != "moved"]
                    path = entry.path[: -len(entry.text)] + original
                    report.findings = rest
                    text = f"{path}; {content_of(report)}"
                    report.findings = [copy_of(entry, client, text)]
                    return


def folder_record(
    store: OfflineStore, entry: WalkedEntry, above: Folder | None
) -> tuple[DirectoryRecord, list[Finding]]:
    """The verified record of a folder, and what is wrong with its place and attributes.

    Raises what `open_folder_record` raises, FileNotFoundError for one that is not there.
    """
    descriptor = store.open_folder(entry.place)
    try:
        folder, moved = open_folder_record(
            store.backing,
            descriptor,
            store.sites,
            plaintext_names=store.plaintext_names,
            above=above.site if above else None,
            binding=entry.binding,
            is_root=not entry.place,
        )
        record = folder.record
        problems = bad_attributes(store, descriptor, record.site_id, record.directory_id)
    finally:
        store.backing.close(descriptor)
    findings = [of(entry, "damaged", "attribute", problem) for problem in problems]
    if moved is not None:
        findings.append(of(entry, "forged", "moved", str(moved)))
    return record, findings
