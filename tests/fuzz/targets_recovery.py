"""Parsers of what a stop or a move leaves behind: journal, export of a content database, scrub."""

from __future__ import annotations

import io
import os
from contextlib import closing
from pathlib import Path

from fsdriver import contentdb_document, oldjournals
from fsdriver.backing import Backing
from fsdriver.contentdb import ContentDatabase
from fsdriver.contentdb_document import ExportInvalid
from fsdriver.errors import FormatUnsupported, JournalInvalid, StoreError, StoreTooNew
from fsdriver.findings import FileReport
from fsdriver.format import delta, journal
from fsdriver.format.chunk import ChunkCipher
from fsdriver.format.journal import Draft, JournalCipher, JournalHead
from fsdriver.scrubstate import ScrubState
from tests.fuzz import world
from tests.fuzz.engine import Parser
from tests.fuzz.targets_store import OWNER

HEAD = JournalHead(7, bytes(range(16)), bytes(range(32)))
_NONCE_AT = journal.FRAME_HEAD
_TAG = 16


def cipher() -> JournalCipher:
    """Of the journal in the corpus."""
    return JournalCipher(world.lease().metadata_key, HEAD)


def head(data: bytes):
    return journal.open_head(data, world.lease().metadata_key), data[journal.HEAD_SIZE :]


def transaction(data: bytes):
    """The bytes before the tag of one that is authentic and may be anything."""
    nonce = data[_NONCE_AT:][:12].ljust(12, b"\0")
    frame = data + cipher().tag(nonce, data)
    change, images = journal.parse(memoryview(frame), 0, 1, cipher())
    return change, [(one.offset, frame[one.position :][: one.length]) for one in images], nonce


def packed_transaction(value) -> bytes:
    change, images, nonce = value
    sizes = [(offset, len(record)) for offset, record in images]
    draft = Draft(memoryview(bytearray(journal.size_of(sizes))), sizes)
    for number, (_offset, record) in enumerate(images):
        draft.image(number)[:] = record
    draft.finish(cipher(), 1, change, nonce=nonce)
    return bytes(draft.frame)[:-_TAG]


def chunk_cipher() -> ChunkCipher:
    """Of the one file in the corpus' deltas."""
    return ChunkCipher(bytes(range(32)), OWNER)


def small_change(data: bytes):
    """The bytes before the tag of a delta that is authentic and may be anything."""
    nonce = data[72:84].ljust(12, b"\0")
    frame = data + cipher().tag(nonce, data)
    change, (position, length) = delta.parse(memoryview(frame), 0, 1, cipher())
    record = memoryview(frame)[position:][: length + 40]
    content = memoryview(bytearray(length))
    if not chunk_cipher().decrypt_message(record, delta.bound_data(change), content):
        return None
    return change, bytes(content), nonce + frame[position:][:24]


def packed_small_change(value) -> bytes | None:
    if value is None:
        return None
    change, content, random = value
    frame = memoryview(bytearray(len(content) + delta.OVERHEAD))
    delta.pack(frame, change, memoryview(content), chunk_cipher(), cipher(), 1, random=random)
    return bytes(frame)[:-_TAG]


def whole_journal(data: bytes):
    """As the next mount does it: what is whole counts, up to the first that is not."""
    place = world.write("journal/a", data).parent
    backing = Backing()
    folder = backing.open_root(str(place))
    found = []
    try:
        found = oldjournals.find(backing, folder, world.lease().metadata_key)
        pending = oldjournals.left_behind(backing, 1, found)
    finally:
        for one in (folder, *(one.descriptor for one in found)):
            backing.close(one)
    return (pending.transactions, pending.lengths) if found else None


def export_key() -> bytes:
    return contentdb_document.mac_key(world.lease().metadata_key)


def export(data: bytes):
    parser = contentdb_document.Parser(io.BytesIO(data), export_key())
    return parser.head, list(parser.rows())


def packed_export(value) -> bytes:
    return b"".join(contentdb_document.pack(*value, export_key()))


def sealed_export(data: bytes):
    """The bytes before the MAC of one that is authentic and may be anything."""
    mac = contentdb_document.hmac.HMAC(export_key(), contentdb_document.hashes.SHA256())
    mac.update(data)
    return export(data + mac.finalize())


def scrub_state(data: bytes):
    """A scrub that goes on: it asks of each file, and notes it; damage only costs time."""
    place = world.write("scrub/scrub.sqlite", data)
    for ending in ("-journal", "-wal", "-shm"):
        Path(f"{place}{ending}").unlink(missing_ok=True)
    with closing(ScrubState(str(place.parent), resume=True)) as state:
        status = os.stat(place)
        report = FileReport(place="f", path="/f", inode=status.st_ino, changed_ns=1, length=2)
        known = state.knows(status)
        state.note(report)
        return known


def content_database(data: bytes):
    """As a mount after a stop opens it, and asks of the root folder."""
    place = world.write("contentdb/contentdb.sqlite", data)
    for ending in ("-wal", "-shm"):
        Path(f"{place}{ending}").unlink(missing_ok=True)
    with closing(ContentDatabase.open(str(place), OWNER, complete_if_new=False)) as database:
        database.begin_session(unclean=True)
        known = database.expected(OWNER)
        database.needs_reconciling(OWNER)
        return known, database.policies(), [database.generation(one) for one in known.values()]


PARSERS = [
    Parser(
        "journal-head",
        head,
        (JournalInvalid, FormatUnsupported),
        lambda value: value[0].sealed_head() + value[1],
    ),
    Parser("journal-transaction", transaction, (JournalInvalid,), packed_transaction),
    Parser("journal-delta", small_change, (JournalInvalid,), packed_small_change),
    Parser("journal", whole_journal, (FormatUnsupported,)),
    Parser("contentdb-export", export, (ExportInvalid, StoreTooNew), packed_export),
    Parser(
        "contentdb-export-sealed",
        sealed_export,
        (ExportInvalid, StoreTooNew),
        lambda value: packed_export(value)[: -contentdb_document.MAC_SIZE],
    ),
    Parser("scrub-state", scrub_state, ()),
    Parser("contentdb", content_database, (StoreError,)),
]
