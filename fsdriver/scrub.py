"""`ckfs scrub`: read and verify everything in a store, with its keys, mounted or not.

Walks, takes the looks of scrublooks.py, and gathers what they find. Beside a live mount, what looks
wrong at first is looked at again: the driver may have been in the middle of it. Changes nothing.
"""

import os
import stat
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from fsdriver import scrubkeys
from fsdriver.findings import DAMAGED_EXIT, FORGED_EXIT, VERDICTS, FileReport, Finding
from fsdriver.folder import Folder
from fsdriver.format.directory import ROOT_BINDING
from fsdriver.knownentries import KnownEntries
from fsdriver.offline import OfflineStore
from fsdriver.scrublooks import Looks
from fsdriver.scrubstate import ScrubState
from fsdriver.scrubwords import copied, in_use
from fsdriver.storewalk import WalkedEntry, WalkedFolder, walk
from keyhierarchy.errors import KeyHierarchyError, SiteUnknown

SETTLE_SECONDS: Final = 30.0
"""A live mount's checkpoints come every five seconds, if it has something to put in place, and may
take a while on a slow disk."""
_SETTLING: Final = (0.003, 0.03, 0.167, 0.2, 0.25, 0.35)
"""Before each further look beside a live mount, as shares of all."""
_IN_USE_LOOKS: Final = 4
"""Looks after which what is being changed is told as that."""
_REMEMBERED: Final = ("deleted", "unknown", "exchanged", "planted")
"""Found by comparing names with the content database, which lags behind a mount at work."""
_SERIOUS: Final = ("damaged", "forged", "unverified", "in-use")
_KEYS_EVERY: Final = 1.0
_TWINS_KEPT: Final = 1_000_000
_UNVERIFIED_EXIT: Final = {
    "permission": 16,
    "newer-format": 11,
    "key": 14,
    "key-missing": 13,
    "key-refused": 15,
}


class Meter(Protocol):
    """Who is told how far a scrub is, and may slow it down."""

    def bytes_read(self, count: int) -> None:
        """Of ciphertext, as they are read."""
        ...

    def file_done(self) -> None:
        """One more file, symlink or node."""
        ...


class ScrubReport(msgspec.Struct, kw_only=True):
    """What a scrub gave; `--json` shows it as it is. Keys are added, never renamed."""

    format: int = 1
    store: str = ""
    store_id: str = ""
    result: str = "clean"
    """clean, damaged, forged, or unverified."""
    started: str = ""
    seconds: float = 0.0
    mounted: bool = False
    content_database: str = "none"
    """complete, learning, or none: without it no deletion and no rollback is found."""
    folders: int = 0
    files: int = 0
    symlinks: int = 0
    nodes: int = 0
    verified_bytes: int = 0
    read_bytes: int = 0
    resumed_files: int = 0
    """Verified by an earlier part of this run."""
    verdicts: dict[str, int] = {}
    notes: list[str] = []
    findings: list[Finding] = []

    def sum_up(self) -> None:
        """Set `result` and `verdicts` from the findings."""
        counted = Counter(one.verdict for one in self.findings)
        self.verdicts = {verdict: counted.get(verdict, 0) for verdict in VERDICTS}
        worst = ("forged", "damaged", "unverified")
        self.result = next((one for one in worst if self.verdicts[one]), "clean")

    @property
    def exit_code(self) -> int:
        """0 also with conflict copies and leftovers: nothing of the store's own is wrong."""
        if self.result == "unverified":
            kinds = [one.kind for one in self.findings if one.verdict == "unverified"]
            return _UNVERIFIED_EXIT.get(kinds[0], 1)
        return {"forged": FORGED_EXIT, "damaged": DAMAGED_EXIT}.get(self.result, 0)

    def to_builtins(self) -> dict[str, Any]:
        """For JSON."""
        return dict(msgspec.to_builtins(self))


class _Idle:
    def bytes_read(self, count: int) -> None:
        pass

    def file_done(self) -> None:
        pass


_Look = Callable[[], list[Finding]]


@dataclass(slots=True)
class _Suspect:
    """What looked wrong beside a live mount."""

    look: _Look
    stamp: tuple[int, ...]
    checkpoint: int
    """The mount's newest when the stamp was first seen."""
    always_still: bool = True


def _lacks_key(problem: Exception | None) -> bool:
    """And not: says that the store names a site that there is none of."""
    return isinstance(problem, KeyHierarchyError) and not isinstance(problem, SiteUnknown)


def _is_serious(findings: list[Finding]) -> bool:
    return any(one.verdict in _SERIOUS for one in findings)


class Scrub:
    """One run over one opened store."""

    def __init__(
        self,
        store: OfflineStore,
        *,
        state: ScrubState | None = None,
        meter: Meter | None = None,
        settle: float = SETTLE_SECONDS,
    ) -> None:
        self._store = store
        self._state = state
        self._meter = meter or _Idle()
        self._settling = [share * settle for share in _SETTLING]
        self._known: KnownEntries | None = None
        self._looks = self._new_looks()
        self._suspects: list[_Suspect] = []
        self._keys_due = 0.0
        self._foreign: set[str] = set()
        """Places of folders that were told as foreign, and of those below them."""
        self._twins: dict[str, int] = {}
        """File id -> inode of files that more than one name could be of."""
        self.report = ScrubReport(store=store.path, store_id=store.store_id.hex())

    def run(self, started: str) -> ScrubReport:
        """`started` is for the report. Raises StoreError for a content database that is broken."""
        begun = time.monotonic()
        report = self.report
        report.started = started
        self._known = KnownEntries.of(self._store)
        try:
            self._looks = self._new_looks()
            report.mounted = self._looks.mounted
            self._note_state()
            report.findings += scrubkeys.check(self._store, self._known)
            root = WalkedEntry("", stat.S_IFDIR, "", "/", binding=ROOT_BINDING)
            self._examine(lambda: self._looks.folder(root, None))
            for walked in walk(self._store):
                self._visit(walked)
            self._settle()
        finally:
            if self._known is not None:
                self._known.close()
        order = list(VERDICTS)
        report.findings.sort(key=lambda one: (order.index(one.verdict), one.path, one.place))
        report.seconds = round(time.monotonic() - begun, 3)
        report.sum_up()
        return report

    def _new_looks(self) -> Looks:
        return Looks(self._store, self._known, self._spend)

    def _note_state(self) -> None:
        report, notes = self.report, self.report.notes
        if self._store.hierarchy.first_sight:
            notes.append("this host sees the store for the first time and trusts it from now")
        if self._known is None:
            notes.append(
                "this host has no content database of the store: a deletion, and a file or folder "
                "put back to an older state, is not found"
            )
        else:
            report.content_database = "complete" if self._known.complete else "learning"
        if report.mounted:
            notes.append("a mount is at work on the store: what it is changing is shown as in use")
        elif self._looks.was_killed:
            notes.append(
                "the last driver was stopped before it could unmount: mount the store once, and "
                "what it left is put right"
            )

    def _spend(self, count: int) -> None:
        self.report.read_bytes += count
        self._meter.bytes_read(count)
        self._keep_keys()

    def _keep_keys(self) -> None:
        if time.monotonic() < self._keys_due:
            return
        self._keys_due = time.monotonic() + _KEYS_EVERY
        for error in self._store.keep_keys():
            note = f"keys: {error}"
            if note not in self.report.notes:
                self.report.notes.append(note)

    # The walk

    def _visit(self, walked: WalkedFolder) -> None:
        if walked.place in self._foreign:
            self._foreign |= {one.place for one in walked.entries if one.kind == stat.S_IFDIR}
            self._foreign.discard(walked.place)
            return
        self._keep_keys()
        self.report.folders += 1
        self.report.findings += self._looks.names.own(walked)
        if walked.folder is not None and self._known is not None:
            self._examine(lambda: self._looks.deleted(walked))
        if walked.folder is None and _lacks_key(walked.problem):
            return  # told of the folder; nothing in it has a key
        for entry in walked.entries:
            self._examine(self._look_at(walked, entry))
            if entry.kind != stat.S_IFDIR:
                self._meter.file_done()

    def _look_at(self, walked: WalkedFolder, entry: WalkedEntry) -> _Look:
        folder = walked.folder
        if folder is not None and entry.name is None:
            return lambda: self._unnamed(walked, folder, entry)
        if entry.kind == stat.S_IFREG:
            self.report.files += 1
            return lambda: self._file(folder, entry)
        if entry.kind == stat.S_IFDIR:
            return lambda: self._folder(folder, entry)
        if entry.kind == stat.S_IFLNK:
            self.report.symlinks += 1
            return lambda: self._looks.symlink(folder, entry) if folder else []
        self.report.nodes += 1
        return lambda: self._looks.node(folder, entry) if folder else []

    def _examine(self, look: _Look) -> None:
        """Take what a look finds; beside a live mount, what looks wrong only at the end."""
        findings = look()
        if self._looks.mounted and _is_serious(findings):
            self._suspects.append(_Suspect(look, self._stamp(findings), self._checkpoint()))
        else:
            self.report.findings += findings

    def _settle(self) -> None:
        """Give a driver at work the time to finish what it is at, and look again."""
        for number, pause in enumerate(self._settling, 1):
            if not self._suspects:
                return
            time.sleep(pause)
            self._looks = self._new_looks()
            last = number == len(self._settling)
            suspects, self._suspects = self._suspects, []
            for suspect in suspects:
                self._look_again(suspect, number, last=last)

    def _look_again(self, suspect: _Suspect, number: int, *, last: bool) -> None:
        findings = suspect.look()
        stamp = self._stamp(findings)
        still = stamp == suspect.stamp
        if not still:
            suspect.stamp, suspect.checkpoint, suspect.always_still = (
                stamp,
                self._checkpoint(),
                False,
            )
        if any(one.kind in _REMEMBERED and one.verdict == "forged" for one in findings):
            # Two commits later nothing noted before is unknown; an idle mount commits nothing.
            commits = self._checkpoint() - suspect.checkpoint
            settled = still and (commits > 1 or (last and suspect.always_still))
        elif any(one.verdict == "in-use" for one in findings):
            settled = last or number >= _IN_USE_LOOKS
        else:
            settled = still or not _is_serious(findings)
        if settled:
            self.report.findings += findings
        elif last:
            self.report.findings += [in_use(one) for one in findings]
        else:
            self._suspects.append(suspect)

    def _stamp(self, findings: list[Finding]) -> tuple[int, ...]:
        """Changes with what was found, and with the names beside it where they matter."""
        places = {one.place for one in findings}
        places |= {one.place.rpartition("/")[0] for one in findings if one.kind in _REMEMBERED}
        stamp = []
        for place in sorted(places):
            try:
                status = self._store.stat(place) if place else os.fstat(self._store.root)
                stamp += [status.st_ino, status.st_ctime_ns]
            except OSError:
                stamp.append(0)
        return tuple(stamp)

    def _checkpoint(self) -> int:
        return self._known.newest_checkpoint() if self._known is not None else 0

    def _unnamed(self, walked: WalkedFolder, folder: Folder, entry: WalkedEntry) -> list[Finding]:
        findings = self._looks.names.unnamed(walked, folder, entry)
        if entry.kind == stat.S_IFDIR and any(one.verdict == "foreign" for one in findings):
            self._foreign.add(entry.place)
        return findings

    def _folder(self, above: Folder | None, entry: WalkedEntry) -> list[Finding]:
        findings = self._looks.folder(entry, above)
        if any(one.verdict == "foreign" for one in findings):
            self._foreign.add(entry.place)
        return findings

    def _file(self, folder: Folder | None, entry: WalkedEntry) -> list[Finding]:
        content = not self._is_verified(entry)
        report = self._looks.file(folder, entry, content=content)
        self.report.verified_bytes += report.verified_bytes
        if not content:
            self.report.resumed_files += 1
        if report.is_authentic and (report.unbound or len(report.bindings) > 1):
            self._note_twin(report)
        if content and self._state is not None and not report.findings and not report.changed:
            self._state.note(report)
        return report.findings

    def _is_verified(self, entry: WalkedEntry) -> bool:
        if self._state is None:
            return False
        try:
            return self._state.knows(self._store.stat(entry.place))
        except OSError:
            return False

    def _note_twin(self, report: FileReport) -> None:
        """Names of one file are links to one inode: a second inode is a copy."""
        known = self._twins.get(report.file_id)
        if known is None and len(self._twins) < _TWINS_KEPT:
            self._twins[report.file_id] = report.inode
        elif known is not None and known != report.inode and not report.findings:
            report.findings = [copied(report)]
