"""What `python -m bench hot-path` measured, as it lies in a JSON file."""

from statistics import median
from typing import Final, Literal

import msgspec

from bench.figures import Machine

PARTS: Final = {
    "raw encrypt": "AES-256-GCM `encrypt_into` in a loop on the same buffers: 100 %",
    "chunks encrypt": "chunk records: nonces, derived keys, AES-256-GCM",
    "chunk set": "the set hash over the nonces of the chunks",
    "geometry": "which chunks a request touches, and where they lie",
    "backing write": "the same records into a backing file whose pages are there",
    "backing new": "the same into a new one, whose pages the system has yet to find",
    "seal": "a file's header, once for each request",
    "file new": "the whole path of writes into a new file, from create to close",
    "file write": "the whole path of writes over what is there, by way of the journal",
    "raw decrypt": "AES-256-GCM `decrypt_into` in a loop on the same buffers: 100 %",
    "chunks decrypt": "chunk records back",
    "backing read": "the records out of the backing file",
    "file read": "the whole path of reads",
}
RAW: Final = {
    "raw encrypt": "raw encrypt",
    "chunks encrypt": "raw encrypt",
    "file new": "raw encrypt",
    "file write": "raw encrypt",
    "raw decrypt": "raw decrypt",
    "chunks decrypt": "raw decrypt",
    "file read": "raw decrypt",
}
"""What is 100 % of what; the rest is no encryption, and has no percentage."""


class HotPathRow(msgspec.Struct, frozen=True, kw_only=True):
    """One chunk size."""

    chunk_size: int
    microseconds: dict[str, list[float]]
    """Part -> CPU time for each MiB of content, one entry for each round, all in the same order."""

    def median(self, part: str) -> float:
        """Microseconds for each MiB."""
        return median(self.microseconds[part])

    def spread(self, part: str) -> float:
        """(slowest - fastest) / median."""
        taken = self.microseconds[part]
        return (max(taken) - min(taken)) / median(taken)

    def share(self, part: str) -> float | None:
        """Speed as a fraction of raw AES-256-GCM: median of the rounds' ratios.

        None for what is no encryption, or was not measured.
        """
        raw = RAW.get(part)
        if raw is None or not {raw, part} <= self.microseconds.keys():
            return None
        pairs = zip(self.microseconds[raw], self.microseconds[part], strict=True)
        return median(one / other for one, other in pairs)


class HotPathRun(msgspec.Struct, frozen=True, kw_only=True):
    """All chunk sizes."""

    bench: Literal["hot-path"] = "hot-path"
    date: str  # UTC, ISO 8601
    commit: str
    machine: Machine
    place: str
    request: int
    """Bytes of one request."""
    rounds: int
    rows: list[HotPathRow]
