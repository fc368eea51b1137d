"""The audit log: every key event, one JSON line each, chained by SHA-256 and only ever appended.

Kept on the host, outside the store, because who owns the store must not be able to rewrite it. The
head (count and hash of the last record) is pinned in a document beside it, so that a cut is found.
Knows events as values, not what they mean. Form and limits: HIERARCHY.md section 6.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct, structs

from keyhierarchy import documents, durable
from keyhierarchy.clock import timestamp
from keyhierarchy.errors import AuditChainBroken, KeystoreInvalid, KeystoreMissing
from keyhierarchy.policy import Timestamp
from keyhierarchy.wrapping import pack_context

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1
LOG_NAME = "audit.log"
HEAD_NAME = "audit.head"
RECOVERED = "audit.recovered"
RESTARTED = "audit.restarted"
_LABEL = b"ckfs/v1/audit-log"  # HIERARCHY.md 6.2
_HASH_FIELD = b',"hash":"'
_HASH_TAIL = len(_HASH_FIELD) + 64 + len(b'"}')
_LINE_LIMIT = 16384
_TEXT_LIMIT = 1000

Outcome = Literal["started", "ok", "failed", "refused"]
_Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Text = Annotated[str, Meta(max_length=_TEXT_LIMIT)]


class Actor(Struct, frozen=True, forbid_unknown_fields=True):
    """Who did it: the account and the process."""

    uid: int
    pid: int
    program: _Text


class Record(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of the log. The order of the fields is the order on disk; `hash` is the last."""

    seq: Annotated[int, Meta(ge=1)]
    time: Timestamp
    event: _Text
    actor: Actor
    policy_id: _Text | None = None
    site_id: _Text | None = None
    key_id: _Text | None = None
    generation: int | None = None
    outcome: Outcome
    reason: _Text = ""
    request_id: _Text
    previous: _Hash
    hash: _Hash = "0" * 64


class Head(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far the log is known to reach: the pinned document."""

    format: int = FORMAT
    lowest_reader: int = FORMAT
    count: Annotated[int, Meta(ge=0)]
    hash: _Hash


class Verified(Struct, frozen=True, kw_only=True):
    """A log that holds: its end, how many torn lines were mended, whether one is yet to be."""

    count: int
    hash: str
    recovered: int
    torn: bool


class AuditLog:
    """The log of one subject: a store, or the service keys of a host.

    Any number of processes may append; a lock on the log file puts them in order.
    """

    def __init__(self, folder: str, subject: bytes, *, request_id: str | None = None) -> None:
        self.path = os.path.join(folder, LOG_NAME)
        self.request_id = request_id or secrets.token_hex(8)
        self._folder = folder
        self._head_path = os.path.join(folder, HEAD_NAME)
        self._lock_path = os.path.join(folder, "audit.lock")
        # Bound to its subject, so that the log of another store does not pass for this one's.
        self._genesis = hashlib.sha256(pack_context(_LABEL, subject)).hexdigest()

    def append(
        self,
        event: str,
        outcome: Outcome,
        *,
        policy_id: str | None = None,
        site_id: str | None = None,
        key_id: str | None = None,
        generation: int | None = None,
        reason: str = "",
    ) -> Record:
        """Add a record; it is on disk when this returns.

        Raises AuditChainBroken, with nothing written, where the log no longer reaches its head.
        """
        durable.make_private_folder(self._folder)
        with durable.locked(self._lock_path, wait=True), self._opened() as descriptor:
            tail, torn, ended = self._tail(descriptor)
            self._require_reaches_head(tail)
            record = Record(
                seq=tail.count + 1,
                time=timestamp(),
                event=event,
                actor=_actor(),
                policy_id=policy_id,
                site_id=site_id,
                key_id=key_id,
                generation=generation,
                outcome=outcome,
                reason=reason[:_TEXT_LIMIT],
                request_id=self.request_id,
                previous=tail.hash,
            )
            lines = b"" if ended else b"\n"
            if torn:
                # The torn bytes stay where they are: this log is never rewritten, only ended.
                line, mended = _pack(_recovery(record, torn))
                lines += line
                record = structs.replace(record, seq=mended.seq + 1, previous=mended.hash)
            line, record = _pack(record)
            self._write(descriptor, lines + line)
            self._store_head(Head(count=record.seq, hash=record.hash))
        return record

    def restart(self, reason: str) -> tuple[Record, str | None]:
        """Begin a new log after a loss: move the old aside, say so in the first record.

        Returns that record and where the old log is now.
        """
        durable.make_private_folder(self._folder)
        aside: str | None = None
        with durable.locked(self._lock_path, wait=True):
            known = self._load_head()
            if os.path.lexists(self.path):
                aside = f"{self.path}.{timestamp().replace(':', '')}"
                os.rename(self.path, aside)
            self._store_head(Head(count=0, hash=self._genesis))
        before = f"{known.count} records, last hash {known.hash}" if known else "none"
        return self.append(RESTARTED, "ok", reason=f"{reason}; pinned before: {before}"), aside

    def head(self) -> Head:
        """Return the pinned head; of a log that never was, count 0."""
        return self._load_head() or Head(count=0, hash=self._genesis)

    def records(self) -> Iterator[Record | None]:
        """Yield every record, oldest first, None for a damaged line; the chain is not checked."""
        for _, record in self._lines():
            yield record

    def verify(self) -> Verified:
        """Check the whole chain and that it reaches the pinned head."""
        known = self.head()
        count, previous, recovered = 0, self._genesis, 0
        torn = b""
        for line, record in self._lines():
            if record is None:
                torn += line
                continue
            if record.seq != count + 1 or record.previous != previous:
                raise self._broken(f"record {record.seq} does not continue record {count}", count)
            if _hash(line) != record.hash:
                raise self._broken(f"record {record.seq} was altered", count)
            if torn and (record.event != RECOVERED or record.reason != _torn_reason(torn)):
                raise self._broken(f"a damaged line follows record {count}", count)
            recovered += bool(torn)
            torn = b""
            count, previous = record.seq, record.hash
            if count == known.count and previous != known.hash:
                raise self._broken(f"record {count} is not the one that was written", count)
        if count < known.count:
            raise self._broken(f"it ends at record {count}, {known.count} were written", count)
        return Verified(count=count, hash=previous, recovered=recovered, torn=bool(torn))

    def _lines(self) -> Iterator[tuple[bytes, Record | None]]:
        """Yield each line with its record, None for one that does not parse."""
        try:
            log = open(self.path, "rb")  # noqa: SIM115 - the generator closes it
        except FileNotFoundError:
            return
        except OSError as error:
            raise durable.storage_error(error, self.path, "read") from error
        with log:
            while line := log.readline(_LINE_LIMIT):
                yield line, _parse(line)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the log for appending, made if need be; the caller holds the lock."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise durable.storage_error(error, self.path, "append to") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _tail(self, descriptor: int) -> tuple[Head, bytes, bool]:
        """Return the end of the chain, torn bytes after it, and whether the last line is ended."""
        try:
            size = os.fstat(descriptor).st_size
            window = min(size, 2 * _LINE_LIMIT)
            lines = os.pread(descriptor, window, size - window).split(b"\n")
        except OSError as error:
            raise durable.storage_error(error, self.path, "read") from error
        ended = not lines[-1]
        pieces = [line + b"\n" for line in lines[:-1]] + ([] if ended else lines[-1:])
        torn = b""
        while pieces:
            piece = pieces.pop()
            record = _parse(piece)
            if record is not None:
                return Head(count=record.seq, hash=record.hash), torn, ended
            torn = piece + torn
        if window < size:
            raise self._broken("more than its last lines is damaged", None)
        return Head(count=0, hash=self._genesis), torn, ended

    def _require_reaches_head(self, tail: Head) -> None:
        known = self._load_head()
        if known is None:
            if tail.count:
                raise self._broken(f"its pinned head {self._head_path} is missing", tail.count)
            # Before the first record, so that a log without a head is never a matter of timing.
            self._store_head(tail)
        elif tail.count < known.count or (tail.count == known.count and tail.hash != known.hash):
            raise self._broken(
                f"it ends at record {tail.count}, {known.count} were written", tail.count
            )

    def _write(self, descriptor: int, content: bytes) -> None:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        except OSError as error:
            raise durable.storage_error(error, self.path, "append to") from error

    def _load_head(self) -> Head | None:
        try:
            document = durable.read_document(self._head_path, limit=4096, private=True)
        except KeystoreMissing:
            return None
        return documents.parse(document, Head, known_format=FORMAT, place=self._head_path)

    def _store_head(self, head: Head) -> None:
        durable.replace_document(self._head_path, documents.pack(head))

    def _broken(self, what: str, count: int | None) -> AuditChainBroken:
        return AuditChainBroken(
            f"the audit log {self.path} is broken: {what}; keep a copy of its folder for the "
            "investigation, put the log back from a backup, or go on with a new one: "
            "ckfs-keys audit restart",
            generation=count,
            place=self.path,
        )


def _actor() -> Actor:
    program = os.path.basename(sys.argv[0] if sys.argv else "") or "python"
    return Actor(uid=os.getuid(), pid=os.getpid(), program=program[:_TEXT_LIMIT])


def _recovery(record: Record, torn: bytes) -> Record:
    """Return what stands in the record's place in the chain when torn bytes come before it."""
    return structs.replace(
        record,
        event=RECOVERED,
        outcome="ok",
        policy_id=None,
        site_id=None,
        key_id=None,
        generation=None,
        reason=_torn_reason(torn),
    )


def _torn_reason(torn: bytes) -> str:
    digest = hashlib.sha256(torn.rstrip(b"\n")).hexdigest()
    return f"what stands before this record was cut off by a crash; its SHA-256 is {digest}"


def _pack(record: Record) -> tuple[bytes, Record]:
    """Return the line, with its newline, and the record with its hash in it."""
    text = msgspec.json.encode(record)
    digest = hashlib.sha256(text[:-_HASH_TAIL]).hexdigest()
    line = text[:-_HASH_TAIL] + _HASH_FIELD + digest.encode() + b'"}\n'
    if len(line) > _LINE_LIMIT:
        raise KeystoreInvalid(f"an audit record of {len(line)} bytes is too long")
    return line, structs.replace(record, hash=digest)


def _hash(line: bytes) -> str:
    """Return the hash that a line should carry: of all its bytes before its hash field."""
    return hashlib.sha256(line.rstrip(b"\n")[:-_HASH_TAIL]).hexdigest()


def _parse(line: bytes) -> Record | None:
    """Return the record; None unless the line is whole and in the one form that we write.

    A line that lacks nothing but its newline is whole: the record is there, and the chain says so.
    """
    line = line.removesuffix(b"\n")
    try:
        record = msgspec.json.decode(line, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    # Another spelling of the same record would put other bytes under the same hash rule.
    return record if msgspec.json.encode(record) == line else None
