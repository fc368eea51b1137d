"""`ckfs verify`: does a store hold what a list of plaintext checksums says? No plaintext leaves it.

Reads the store with its keys, mounted or not, and hashes in this process. Says match, differ,
damaged, missing or extra for each path; what a checksum was made of is the list's business.
"""

import os
import stat
from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from cryptography.hazmat.primitives import hashes

from fsdriver.checksumlist import ALGORITHMS, Checksum
from fsdriver.errors import WrongArguments
from fsdriver.filecheck import Spend
from fsdriver.findings import DAMAGED_EXIT, FORGED_EXIT, FileReport
from fsdriver.folder import Folder
from fsdriver.knownentries import KnownEntries
from fsdriver.offline import OfflineStore
from fsdriver.scrublooks import Looks
from fsdriver.storewalk import WalkedEntry, walk

Outcome = Literal["match", "differ", "damaged", "missing", "extra"]
DIFFERENT_EXIT: Final = 42
_NOT_OF_CONTENT: Final = ("unknown", "exchanged", "attribute")
"""Findings that do not touch what the file says; a scrub tells of them."""
_ZEROS: Final = bytes(1 << 20)


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """One path."""

    outcome: Outcome
    path: str
    """In the mount, from /."""
    message: str = ""


class VerifyReport(msgspec.Struct, kw_only=True):
    """What a comparison gave; `--json` shows it as it is."""

    format: int = 1
    store: str
    base: str
    mounted: bool
    counts: dict[str, int] = {}
    verified_bytes: int = 0
    notes: list[str] = []
    files: list[Verified] = []
    """All but those that match."""
    forged: bool = False

    @property
    def exit_code(self) -> int:
        """Damage is told before difference: it is why."""
        if self.forged:
            return FORGED_EXIT
        if self.counts["damaged"]:
            return DAMAGED_EXIT
        different = self.counts["differ"] + self.counts["missing"] + self.counts["extra"]
        return DIFFERENT_EXIT if different else 0


class Verify:
    """One list against one opened store, below the folder `base` of the mount."""

    def __init__(
        self,
        store: OfflineStore,
        checksums: Iterable[Checksum],
        *,
        base: str = "/",
        mountpoint: str | None = None,
        allow_extra: bool = False,
        spend: Spend | None = None,
    ) -> None:
        """`mountpoint` is what stands for `base` in the list's absolute names.

        Raises WrongArguments for a list that names a path twice, or one outside `base`.
        """
        self._store = store
        self._mountpoint = mountpoint
        self._base = os.path.normpath(os.path.join("/", base))
        self._allow_extra = allow_extra
        self._spend = spend or (lambda _bytes: None)
        self._looks = Looks(store, None, self._spend)
        self._wanted: dict[str, Checksum] = {}
        for one in checksums:
            path = self._path_of(one.name)
            known = self._wanted.setdefault(path, one)
            if (known.algorithm, known.digest) != (one.algorithm, one.digest):
                raise WrongArguments(f"the list has two checksums of {path}")
        self.report = VerifyReport(
            store=store.path,
            base=self._base,
            mounted=store.is_mounted(),
            counts=dict.fromkeys(("match", "differ", "damaged", "missing", "extra"), 0),
        )

    def _path_of(self, name: bytes) -> str:
        text = os.fsdecode(name)
        if self._mountpoint is not None and _is_below(os.path.normpath(text), self._mountpoint):
            text = os.path.relpath(os.path.normpath(text), self._mountpoint)
        path = os.path.normpath(os.path.join(self._base, text))
        if not _is_below(path, self._base):
            raise WrongArguments(
                f"the list names {text}, which lies outside {self._base}; say with --base which "
                "folder of the mount its names begin in"
            )
        return path

    def run(self) -> VerifyReport:
        """Go through the store once."""
        report = self.report
        if report.mounted:
            report.notes.append(
                "a mount is at work on the store: what its programs wrote and it has not put in "
                "place yet is not looked at"
            )
        elif self._store.was_killed():
            report.notes.append(
                "the last driver was stopped before it could unmount: mount the store once first"
            )
        known = KnownEntries.of(self._store)
        try:
            self._looks = Looks(self._store, known, self._spend)
            for walked in walk(self._store):
                self._store.keep_keys()
                for entry in walked.entries:
                    if entry.kind != stat.S_IFDIR:
                        self._compare(walked.folder, entry)
        finally:
            if known is not None:
                known.close()
        for path in self._wanted:
            self._say("missing", path, "")
        report.files.sort(key=lambda one: (one.outcome, one.path))
        return report

    def _compare(self, folder: Folder | None, entry: WalkedEntry) -> None:
        wanted = self._wanted.pop(entry.path, None)
        if wanted is None:
            is_file = entry.kind == stat.S_IFREG and _is_below(entry.path, self._base)
            if is_file and not self._allow_extra:
                self._say("extra", entry.path, entry.problem)
            return
        if entry.kind != stat.S_IFREG:
            self._say("differ", entry.path, "it is no regular file")
            return
        report, digest = hash_file(self._looks, folder, entry, wanted.algorithm)
        self.report.verified_bytes += report.verified_bytes
        wrong = [one for one in report.findings if one.kind not in _NOT_OF_CONTENT]
        if report.gone:
            self._say("missing", entry.path, "it went away meanwhile")
        elif any(one.verdict in ("in-use", "pending") for one in wrong):
            self._say("differ", entry.path, f"{wrong[0].message}; {wrong[0].remedy}")
        elif wrong:
            self.report.forged |= any(one.verdict == "forged" for one in wrong)
            self._say("damaged", entry.path, wrong[0].message)
        elif report.changed:
            self._say("differ", entry.path, "the mount is changing it; verify again later")
        else:
            self._say("match" if digest == wanted.digest else "differ", entry.path, "")

    def _say(self, outcome: Outcome, path: str, message: str) -> None:
        self.report.counts[outcome] += 1
        if outcome != "match":
            self.report.files.append(Verified(outcome=outcome, path=path, message=message))


def hash_file(
    looks: Looks, folder: Folder | None, entry: WalkedEntry, algorithm: str
) -> tuple[FileReport, bytes]:
    """A look at a file, and the digest of its plaintext, which counts only without findings."""
    digest = hashes.Hash(ALGORITHMS[algorithm])
    at = 0

    def pad(end: int) -> None:
        nonlocal at
        while at < end:
            step = min(end - at, len(_ZEROS))
            digest.update(_ZEROS[:step])
            at += step

    def take(offset: int, plaintext: memoryview) -> None:
        nonlocal at
        pad(offset)  # a hole
        digest.update(plaintext)
        at = offset + len(plaintext)

    report = looks.file(folder, entry, sink=take)
    pad(report.size)
    return report, digest.finalize()


def _is_below(path: str, base: str) -> bool:
    return path == base or path.startswith(base.rstrip("/") + "/")
