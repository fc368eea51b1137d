"""Findings in words: what is the same about those of every look."""

import errno
from typing import Final

import msgspec

from fsdriver.errors import CkfsError, FormatUnsupported
from fsdriver.filecheck import kind_of_key
from fsdriver.findings import RESTORE, FileReport, Finding, Verdict
from fsdriver.storewalk import FolderMoved, WalkedEntry
from keyhierarchy import errors as keys

_UNVERIFIED: Final = {
    "permission": "run as the store's owner",
    "newer-format": "use a newer ckfs",
    **dict.fromkeys(("key", "key-missing", "key-refused"), "see `ckfs-keys status`"),
}
_COPY_REMEDY: Final = (
    "look at both with `ckfs salvage`, keep one, and let `ckfs scrub --repair` move the copy away"
)


def below(place: str, text: str) -> str:
    """A place in the store, of a name in a folder."""
    return f"{place}/{text}" if place else text


def copy_of(entry: WalkedEntry, client: str, what: str) -> Finding:
    """A sync client's second version of something."""
    message = f"a conflict copy that {client} made, of {what}"
    return of(entry, "foreign", "conflict-copy", message, _COPY_REMEDY)


def leftover(entry: WalkedEntry, kind: str, message: str) -> Finding:
    """The driver's own, of no use any more."""
    return of(entry, "leftover", kind, message, "`ckfs scrub --repair` takes it away")


def content_of(report: FileReport) -> str:
    """Of a conflict copy: whether it is worth keeping."""
    if not report.is_authentic:
        return "its header does not open"
    wrong = [one for one in report.findings if one.verdict in ("damaged", "forged")]
    if wrong:
        return f"its content is not whole: {wrong[0].message}"
    return f"its content is whole: {report.size} bytes, generation {report.generation}"


def reclassified(finding: Finding, verdict: Verdict, remedy: str) -> Finding:
    """The same fact, and nobody's fault."""
    return msgspec.structs.replace(finding, verdict=verdict, remedy=remedy)


def in_use(finding: Finding) -> Finding:
    """What a mount at work may be about to make right."""
    if finding.verdict not in ("damaged", "forged"):
        return finding
    return reclassified(finding, "in-use", "the mount is changing it; scrub again later")


def of(entry: WalkedEntry, verdict: Verdict, kind: str, message: str, remedy: str = "") -> Finding:
    """What is wrong with an entry."""
    return Finding(
        verdict=verdict,
        kind=kind,
        place=entry.place,
        path=entry.path,
        message=message,
        remedy=remedy or _UNVERIFIED.get(kind, RESTORE),
    )


def told_by(error: Exception) -> tuple[Verdict, str, str]:
    """Verdict, kind and message of what kept something from being read."""
    if isinstance(error, OSError):
        if error.errno in (errno.EACCES, errno.EPERM):
            return "unverified", "permission", f"cannot be read: {error.strerror}"
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EINVAL):
            return "forged", "planted", "something else lies where it was"
        return "damaged", "unreadable", f"cannot be read: {error.strerror}"
    if isinstance(error, FolderMoved):
        return "forged", "moved", str(error)
    if isinstance(error, FormatUnsupported):
        return "unverified", "newer-format", str(error)
    if isinstance(error, CkfsError | keys.SiteUnknown):
        return "damaged", "directory-record", str(error)
    kind = kind_of_key(error) if isinstance(error, keys.KeyHierarchyError) else "key"
    return "unverified", kind, str(error)


def copied(report: FileReport) -> Finding:
    """A file that is there twice, under two names that it is both bound to."""
    return Finding(
        verdict="forged",
        kind="copied",
        place=report.place,
        path=report.path,
        message="another file of the store is the same one: it was copied, or a hard link was "
        "broken in two in the store",
        remedy="compare the two, and remove the one that is not right through the mount",
    )
