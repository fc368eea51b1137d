"""The export of a content database: one form for one content, and no other is taken."""

import io
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fsdriver.contentdb_document import (
    HEAD_SIZE,
    MAC_SIZE,
    ExportInvalid,
    Head,
    Parser,
    check,
    mac_key,
    pack,
)
from fsdriver.contentdb_file import GENERATION_MAX, Meta
from fsdriver.errors import StoreTooNew

KEY = bytes(range(32))
STORE = b"store id, 16 byt"
UNHURRIED = settings(deadline=None)

ids = st.binary(min_size=16, max_size=16)
objects = ids.filter(any)
numbers = st.integers(0, GENERATION_MAX)
counted = st.integers(1, GENERATION_MAX)
texts = st.binary(min_size=1, max_size=255).map(
    lambda text: text.replace(b"/", b"-").replace(b"\0", b"-")
)
metas = st.builds(Meta, ids, st.booleans(), numbers, numbers, numbers)


@st.composite
def documents(draw):
    """A head, and the rows in their order."""
    rows = {
        "policies": draw(
            st.dictionaries(
                ids, st.tuples(counted, st.binary(min_size=32, max_size=32), counted), max_size=3
            )
        ),
        "folders": draw(st.dictionaries(ids, st.tuples(numbers), max_size=3)),
        "entries": draw(
            st.dictionaries(
                st.tuples(st.sampled_from([STORE, KEY[:16]]), texts),
                st.tuples(objects | st.just(b"")),
                max_size=5,
            )
        ),
        "objects": draw(st.dictionaries(objects, st.tuples(counted), max_size=5)),
    }
    flat = [
        (table, (*(key if isinstance(key, tuple) else (key,)), *values))
        for table, some in rows.items()
        for key, values in sorted(some.items())
    ]
    return Head(draw(metas), tuple(map(len, rows.values()))), flat


def packed(head, rows, key=KEY) -> bytes:
    return b"".join(pack(head, rows, key))


def parsed(raw: bytes, key=KEY) -> tuple:
    parser = Parser(io.BytesIO(raw), key)
    return parser.head, list(parser.rows())


@UNHURRIED
@given(documents())
def test_a_document_gives_back_what_went_in(document):
    raw = packed(*document)
    assert parsed(raw) == document
    check(io.BytesIO(raw), len(raw), KEY)
    assert raw.startswith(document[0].pack())


def resealed(raw: bytes) -> bytes:
    """As somebody would who has the key: only the form can refuse it then."""
    from cryptography.hazmat.primitives import hashes, hmac  # noqa: PLC0415

    mac = hmac.HMAC(KEY, hashes.SHA256())
    mac.update(raw[:-MAC_SIZE])
    return raw[:-MAC_SIZE] + mac.finalize()


@settings(max_examples=200, deadline=None)
@given(documents(), st.data())
def test_whatever_parses_packs_to_the_same_bytes(document, data):
    """Bytes changed, left out and put in, under a MAC that is right."""
    raw = bytearray(packed(*document))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    forged = resealed(bytes(raw))
    try:
        head, rows = parsed(forged)
    except (ExportInvalid, StoreTooNew):
        return
    assert packed(head, rows) == forged


@UNHURRIED
@given(st.binary(max_size=300))
@example(b"")
@example(b"CKFS\x05\x01\x01\x00" + bytes(80) + bytes(32))
def test_noise_is_refused(raw):
    for one in (raw, resealed(b"CKFS\x05\x01\x01\x01" + raw + bytes(32))):
        try:
            head, rows = parsed(one)
        except (ExportInvalid, StoreTooNew):
            continue
        assert packed(head, rows) == one


@UNHURRIED
@given(documents(), st.data())
def test_one_bit_changed_is_forged(document, data):
    raw = bytearray(packed(*document))
    at = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[at // 8] ^= 1 << at % 8
    with pytest.raises(ExportInvalid):
        check(io.BytesIO(bytes(raw)), len(raw), KEY)
    with pytest.raises((ExportInvalid, StoreTooNew)):
        parsed(bytes(raw))


@UNHURRIED
@given(documents(), st.data())
def test_cut_or_extended_is_forged(document, data):
    raw = packed(*document)
    cut = data.draw(st.integers(0, len(raw) - 1))
    for one in (raw[:cut], raw + b"\0", raw + raw):
        with pytest.raises(ExportInvalid):
            check(io.BytesIO(one), len(one), KEY)
        with pytest.raises(ExportInvalid):
            parsed(one)


def small() -> tuple:
    rows = [
        ("entries", (STORE, b"a", KEY[:16])),
        ("entries", (STORE, b"b", b"")),
        ("objects", (KEY[:16], 3)),
    ]
    return Head(Meta(STORE, complete=True), (0, 0, 2, 1)), rows


def test_another_key_is_refused():
    raw = packed(*small())
    assert mac_key(bytes(32)) != mac_key(bytes(31) + b"\1")
    with pytest.raises(ExportInvalid, match="this store's keys"):
        check(io.BytesIO(raw), len(raw), bytes(32))
    with pytest.raises(ExportInvalid, match="this store's keys"):
        parsed(raw, bytes(32))


ENTRY_A = HEAD_SIZE
ENTRY_B = ENTRY_A + 34
OBJECT = ENTRY_B + 34


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (0, b"CKFT"),
        (4, b"\1"),
        (5, b"\2"),
        (7, b"\2"),
        (7, b"\x80"),
        (24, b"\xff"),  # more unclean stops than a number holds
        (ENTRY_A + 33, b"c"),  # behind the next one
        (ENTRY_A + 33, b"b"),  # the same twice
        (ENTRY_A + 33, b"/"),
        (ENTRY_A + 33, b"\0"),
        (ENTRY_A + 32, b"\0"),
        (OBJECT, bytes(16)),
        (OBJECT + 16, bytes(8)),
        (OBJECT + 16, b"\xff" * 8),
    ],
)
def test_a_form_that_no_ckfs_writes(at, new):
    raw = packed(*small())
    assert len(raw) == OBJECT + 24 + MAC_SIZE
    assert parsed(resealed(raw)) == small()
    with pytest.raises(ExportInvalid):
        parsed(resealed(raw[:at] + new + raw[at + len(new) :]))


def test_a_newer_form_says_so():
    raw = packed(*small())
    with pytest.raises(StoreTooNew, match="use a newer ckfs"):
        parsed(resealed(raw[:6] + b"\2" + raw[7:]))


@pytest.mark.parametrize("counts", [(0, 0, 1, 1), (0, 0, 3, 1), (1, 0, 2, 1), (0, 0, 2, 0)])
def test_rows_that_were_not_counted_are_not_packed(counts):
    head, rows = small()
    with pytest.raises(ValueError, match="counted"):
        packed(head._replace(counts=counts), rows)
    many = resealed(packed(head, rows)[:48] + struct.pack(">4Q", *counts) + packed(head, rows)[80:])
    with pytest.raises(ExportInvalid):
        parsed(many)


def test_the_bytes_of_a_document():
    """Written down once, so that they do not change unseen (FORMAT.md 12.2)."""
    rows = [
        ("policies", (b"P" * 16, 2, b"F" * 32, 3)),
        ("folders", (b"D" * 16, 1)),
        ("entries", (b"D" * 16, b"name", b"O" * 16)),
        ("objects", (b"O" * 16, 9)),
    ]
    head = Head(Meta(STORE, True, 1, 4, 1_800_000_000), (1, 1, 1, 1))
    raw = packed(head, rows)
    assert raw[:-MAC_SIZE].hex() == (
        "434b465305010101" + STORE.hex() + "0000000000000001" + "0000000000000004"
        "000000006b49d200" + "0000000000000001" * 4
        + "50" * 16 + "0000000000000002" + "46" * 32 + "0000000000000003"
        + "44" * 16 + "0000000000000001"
        + "44" * 16 + "4f" * 16 + "04" + b"name".hex()
        + "4f" * 16 + "0000000000000009"
    )  # fmt: skip
    assert parsed(raw) == (head, rows)
