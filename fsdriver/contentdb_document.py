"""A content database as one document that can be carried to another host: pack and parse.

Canonical: one content has one form, and a reader takes no other. Authenticated as a whole under a
key of the store's root site, so that a document of this store cannot be made or changed without its
keys (FORMAT.md 12.2). Bytes in, rows out; knows neither SQLite nor the file's place.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from fsdriver.contentdb_file import GENERATION_MAX, ID_SIZE, Meta, Row
from fsdriver.errors import StoreDamaged, StoreTooNew
from fsdriver.format.header import MAGIC

RECORD_TYPE: Final = 5
VERSION: Final = 1
MAC_SIZE: Final = 32
TABLES: Final = ("policies", "folders", "entries", "objects")
"""In the order in which they come."""

_COMPLETE: Final = 1
_HEAD = struct.Struct(f">4sBBBB{ID_SIZE}sQQQ4Q")
HEAD_SIZE: Final = _HEAD.size
_POLICY = struct.Struct(">16sQ32sQ")
_NUMBERED = struct.Struct(">16sQ")
_ENTRY = struct.Struct(">16s16sB")
_NO_OBJECT: Final = bytes(ID_SIZE)
_BLOCK: Final = 1 << 20


class ExportInvalid(StoreDamaged):
    """A document that no ckfs wrote, or not for this store."""


class Readable(Protocol):
    """A file, or anything that reads like one."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes."""
        ...


class Head(NamedTuple):
    """The first bytes: what it is about, and how many rows follow."""

    meta: Meta
    counts: tuple[int, int, int, int]
    """Of TABLES."""

    def pack(self) -> bytes:
        """HEAD_SIZE bytes."""
        meta = self.meta
        return _HEAD.pack(
            MAGIC,
            RECORD_TYPE,
            VERSION,
            VERSION,
            _COMPLETE if meta.complete else 0,
            meta.store_id,
            meta.unclean,
            meta.checkpoint,
            meta.committed,
            *self.counts,
        )

    @classmethod
    def parse(cls, raw: bytes) -> "Head":
        """Raises ExportInvalid or StoreTooNew. Nothing of it is authentic yet."""
        if len(raw) != HEAD_SIZE:
            raise ExportInvalid("it is too short")
        magic, kind, version, lowest, flags, store_id, *numbers = _HEAD.unpack(raw)
        if magic != MAGIC or kind != RECORD_TYPE or not version or not lowest:
            raise ExportInvalid("it is no export of a content database")
        if lowest > VERSION:
            raise StoreTooNew(
                f"the export wants a reader of format {lowest}, this ckfs reads up to {VERSION}: "
                "use a newer ckfs"
            )
        unclean, checkpoint, committed, *counts = numbers
        head = cls(
            Meta(store_id, bool(flags & _COMPLETE), unclean, checkpoint, committed), (*counts,)
        )
        if head.pack() != raw or max(numbers[:3]) > GENERATION_MAX:
            raise ExportInvalid("its first bytes are not in the form that ckfs gives them")
        return head


def mac_key(metadata_key: bytes) -> bytes:
    """32 bytes, from the metadata key of the root folder's site."""
    return HKDFExpand(hashes.SHA256(), 32, b"ckfs 1 content database export").derive(metadata_key)


def pack(head: Head, rows: Iterable[Row], key: bytes) -> Iterator[bytes]:
    """The document in pieces. The rows come table by table, each in rising order.

    Raises ValueError for rows that the form cannot hold.
    """
    mac = hmac.HMAC(key, hashes.SHA256())
    counts = dict.fromkeys(TABLES, 0)
    piece = bytearray(head.pack())
    for table, values in rows:
        counts[table] += 1
        piece += _pack_row(table, values)
        if len(piece) >= _BLOCK:
            mac.update(bytes(piece))
            yield bytes(piece)
            piece.clear()
    if tuple(counts.values()) != head.counts:
        raise ValueError("the rows are not those that were counted")
    mac.update(bytes(piece))
    yield bytes(piece) + mac.finalize()


def _pack_row(table: str, values: tuple[bytes | int, ...]) -> bytes:
    if table == "policies":
        return _POLICY.pack(*values)
    if table == "entries":
        folder, text, object_id = values
        if not isinstance(text, bytes) or object_id == _NO_OBJECT:
            raise ValueError("no entry of a folder")
        return _ENTRY.pack(folder, object_id or _NO_OBJECT, len(text)) + text
    return _NUMBERED.pack(*values)


def check(file: Readable, size: int, key: bytes) -> None:
    """Raises ExportInvalid unless the next `size` bytes end with the MAC of those before."""
    left = size - MAC_SIZE
    if left < HEAD_SIZE:
        raise ExportInvalid("it is too short")
    mac = hmac.HMAC(key, hashes.SHA256())
    while left and (piece := file.read(min(_BLOCK, left))):
        mac.update(piece)
        left -= len(piece)
    found = file.read(MAC_SIZE)
    if left or not _equal(mac, found):
        raise ExportInvalid("it was not made with this store's keys, or was changed since")


def _equal(mac: hmac.HMAC, found: bytes) -> bool:
    try:
        mac.verify(found)
    except InvalidSignature:
        return False
    return True


class Parser:
    """Reads a document once, from its first byte to its last, and says whether it is authentic."""

    def __init__(self, file: Readable, key: bytes) -> None:
        """Raises ExportInvalid or StoreTooNew."""
        self._file = file
        self._mac = hmac.HMAC(key, hashes.SHA256())
        self.head = Head.parse(self._read(HEAD_SIZE))

    def rows(self) -> Iterator[Row]:
        """Every row, in the order of TABLES. Raises ExportInvalid, at the last if it is forged."""
        policies, folders, entries, objects = self.head.counts
        yield from self._rising("policies", policies, self._policy)
        yield from self._rising("folders", folders, self._folder)
        yield from self._rising("entries", entries, self._entry)
        yield from self._rising("objects", objects, self._object)
        if not _equal(self._mac, self._file.read(MAC_SIZE)) or self._file.read(1):
            raise ExportInvalid("it was not made with this store's keys, or was changed since")

    def _read(self, size: int) -> bytes:
        raw = self._file.read(size)
        if len(raw) != size:
            raise ExportInvalid("it ends too early")
        self._mac.update(raw)
        return raw

    def _rising(
        self, table: str, count: int, one: Callable[[], tuple[bytes | int, ...]]
    ) -> Iterator[Row]:
        keys = 2 if table == "entries" else 1
        before: tuple[bytes | int, ...] = ()
        for _ in range(count):
            values = one()
            if values[:keys] <= before:
                raise ExportInvalid(f"its {table} are not in order")
            before = values[:keys]
            yield table, values

    def _policy(self) -> tuple[bytes | int, ...]:
        policy_id, tik_generation, fingerprint, sealed_generation = _POLICY.unpack(
            self._read(_POLICY.size)
        )
        return (
            policy_id,
            _number(tik_generation, least=1),
            fingerprint,
            _number(sealed_generation, least=1),
        )

    def _folder(self) -> tuple[bytes | int, ...]:
        folder, reconciled = _NUMBERED.unpack(self._read(_NUMBERED.size))
        return folder, _number(reconciled, least=0)

    def _entry(self) -> tuple[bytes | int, ...]:
        folder, object_id, length = _ENTRY.unpack(self._read(_ENTRY.size))
        text = self._read(length)
        if not text or b"/" in text or b"\0" in text:
            raise ExportInvalid("it names an entry that no folder can have")
        return folder, text, b"" if object_id == _NO_OBJECT else object_id

    def _object(self) -> tuple[bytes | int, ...]:
        object_id, generation = _NUMBERED.unpack(self._read(_NUMBERED.size))
        if object_id == _NO_OBJECT:
            raise ExportInvalid("it has an object without an id")
        return object_id, _number(generation, least=1)


def _number(value: int, *, least: int) -> int:
    if not least <= value <= GENERATION_MAX:
        raise ExportInvalid(f"it has the number {value}, which no ckfs writes")
    return value
