"""What a scrub can find, as plain records: they go between processes and into `--json`.

The verdict is what tells findings apart: bytes that do not authenticate are damage, authentic bytes
in the wrong place or of an older time are forgery, the rest is nobody's fault.
"""

from typing import Final, Literal

import msgspec

Verdict = Literal["damaged", "forged", "unverified", "pending", "in-use", "foreign", "leftover"]

VERDICTS: Final[dict[Verdict, str]] = {
    "forged": "authentic, but in the wrong place or of an older time",
    "damaged": "bytes that do not authenticate, or are missing",
    "unverified": "could not be read or opened just now",
    "pending": "left by a stopped driver, to be recovered at the next mount",
    "in-use": "being changed by the running mount",
    "foreign": "not written by ckfs, such as a sync client's conflict copy",
    "leftover": "the driver's own, of no use any more",
}
"""In the order in which they are shown."""

DAMAGED_EXIT: Final = 40
FORGED_EXIT: Final = 41

RESTORE: Final = "restore it from a backup of the store"
SALVAGE: Final = "restore it from a backup, or take what is readable with `ckfs salvage`"

Ranges = list[tuple[int, int]]
"""Half-open: [start, end)."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it was left, and what to do."""

    verdict: Verdict
    kind: str
    place: str
    """Relative to the store."""
    path: str
    """In the mount, from /; empty for what has no place there."""
    message: str
    remedy: str = ""
    chunks: Ranges = []
    ranges: Ranges = []
    """Bytes of plaintext that cannot be read."""


class FileTask(msgspec.Struct, frozen=True, kw_only=True):
    """One file to look at: all that a worker needs beside the opened store."""

    place: str
    path: str
    binding: bytes | None = None
    """What the header has to name; None leaves its name unchecked."""
    site_id: bytes = b""
    """Of its folder; empty leaves it unchecked."""
    content: bool = True
    """False: the header alone."""


class FileReport(msgspec.Struct, kw_only=True):
    """What one look at one file gave."""

    place: str
    path: str
    file_id: str = ""
    """Hex; empty if its header does not open."""
    site_id: str = ""
    generation: int = 0
    size: int = 0
    verified_bytes: int = 0
    """Of plaintext, in chunks that authenticate."""
    read_bytes: int = 0
    """Of ciphertext."""
    session: str = ""
    bindings: list[bytes] = []
    unbound: bool = False
    dirty: bool = False
    """Its header says that the file was being written."""
    unsealed: bool = False
    """Its header is dirty, or of another length than its file: a driver stopped, or is at work."""
    blank: bool = False
    """There is nothing, or nothing but zeros, where its header should be."""
    changed: bool = False
    """It changed while it was looked at."""
    gone: bool = False
    """It was not there any more."""
    inode: int = 0
    length: int = 0
    changed_ns: int = 0
    """ctime."""
    findings: list[Finding] = []

    @property
    def is_authentic(self) -> bool:
        """Whether its header opened under its site's key."""
        return bool(self.generation)


def merged(ranges: Ranges) -> Ranges:
    """Sorted, and neighbours as one."""
    result: Ranges = []
    for start, end in sorted(ranges):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def shown(ranges: Ranges, *, most: int = 8) -> str:
    """As text, the ends included: "0-4095, 8192-12287"."""
    texts = [f"{start}-{end - 1}" if end - start > 1 else str(start) for start, end in ranges]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
