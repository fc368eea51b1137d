"""Versioned documents: strict, and clear about a newer one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhierarchy import documents
from keyhierarchy.errors import KeystoreInvalid, KeystoreNewer


class Sample(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    lowest_reader: int
    key: bytes


def parse(document: bytes) -> Sample:
    return documents.parse(document, Sample, known_format=2, place="/there")


def test_round_trip():
    sample = Sample(2, 1, b"\0\xff")
    assert parse(documents.pack(sample)) == sample
    assert documents.pack(sample).endswith(b"\n")


@given(st.binary(max_size=16), st.integers(1, 9), st.integers(1, 2))
def test_parse_then_pack_gives_the_same_bytes(key, written, lowest):
    document = documents.pack(Sample(written, lowest, key))
    assert documents.pack(parse(document)) == document


def test_a_document_for_newer_readers_is_refused_before_its_fields_are_looked_at():
    with pytest.raises(KeystoreNewer, match=r"format 3.*format 2"):
        parse(b'{"format": 3, "lowest_reader": 3, "anything": []}')


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"format": 1}',
        b'{"format": 0, "lowest_reader": 1, "key": ""}',
        b'{"format": 1, "lowest_reader": 1}',
        b'{"format": 1, "lowest_reader": 1, "key": "%%%%"}',
        b'{"format": 1, "lowest_reader": 1, "key": "", "more": 1}',
        b'{"format": "1", "lowest_reader": 1, "key": ""}',
        b'{"format": 1, "lowest_reader": 1, "key": ""} {}',
        b"[" * 100_000,
    ],
)
def test_damage_is_refused_with_place_and_remedy(document):
    with pytest.raises(KeystoreInvalid, match=r"/there.*backup") as caught:
        parse(document)
    assert caught.value.place == "/there"


def test_an_error_does_not_quote_the_document():
    with pytest.raises(KeystoreInvalid) as caught:
        parse(b'{"format": 1, "lowest_reader": 1, "key": "SECRETSECRET!"}')
    assert "SECRET" not in str(caught.value)
    assert "key" in str(caught.value)
