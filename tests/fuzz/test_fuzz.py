"""Each parser for a moment: what is known of old stays repaired, and new damage is looked for.

`make fuzz` looks longer. Both use the same parsers, corpus and changes.
"""

from __future__ import annotations

import json
import struct
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import engine
from tests.fuzz.engine import CORPUS, FOUND, Parser, corpus, outcome, regressions, run, shortened
from tests.fuzz.mutation import mutate
from tests.fuzz.registry import PARSERS

pytestmark = pytest.mark.slow

INPUTS = 150
SECONDS = 0.5
# A backup opens in the vault that made it, whose keys are made anew for each run.
NEVER_ACCEPTED = {"vault-restore"}

each_parser = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)


def test_every_parser_has_a_name_and_a_corpus_of_its_own():
    names = [parser.name for parser in PARSERS]
    assert len(set(names)) == len(names) >= 60
    assert {one.name for one in CORPUS.iterdir()} == set(names)
    assert not FOUND.exists() or {one.name for one in FOUND.iterdir()} <= set(names)


@each_parser
def test_what_was_written_and_what_was_found(parser):
    kinds = []
    for data in corpus(parser):
        kind, complaint = outcome(parser, data)
        assert not complaint
        kinds.append(kind)
    assert "accepted" in kinds or parser.name in NEVER_ACCEPTED
    for place in regressions(parser):
        assert not outcome(parser, place.read_bytes())[1], place


@each_parser
def test_changed_inputs(parser):
    """The same ones in every run; `make fuzz` draws others."""
    tally = run(parser, Random(parser.name), seconds=SECONDS, inputs=INPUTS)
    assert not tally.found
    assert tally.inputs > len(corpus(parser))


@each_parser
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.binary(max_size=600) | st.text().map(str.encode))
def test_inputs_out_of_nowhere(parser, data):
    assert not outcome(parser, data)[1]


# The engine itself: each kind of defect is planted, and must be found.


def planted(parse, pack=None, *, canonical=True) -> Parser:
    return Parser("extent-map", parse, (ValueError,), pack, canonical)


def first_words(data: bytes) -> tuple[int, bytes]:
    """Wants eight bytes and forgets to look whether they are there."""
    return struct.unpack(">Q", data[:8])[0], data[8:]


def complaints(parser: Parser) -> list[str]:
    return list(run(parser, Random(1), seconds=10, inputs=400).found)


def test_an_undocumented_error_is_found():
    (complaint,) = complaints(planted(first_words))
    assert complaint.startswith("error at ")


def test_a_value_that_packs_to_other_bytes_is_found():
    assert complaints(planted(lambda data: data.lower(), lambda value: value)) == [
        "packs to other bytes than it was parsed from"
    ]


def test_a_value_that_does_not_come_back_is_found():
    parser = planted(len, lambda value: b"x" * (value // 2), canonical=False)
    assert complaints(parser) == ["parses to another value when packed"]


def test_a_value_that_cannot_be_packed_is_found():
    (complaint,) = complaints(planted(lambda data: data, lambda value: value / 0))
    assert complaint.startswith("packing: TypeError")


def test_what_takes_too_long_is_found(monkeypatch):
    monkeypatch.setattr(engine, "SLOW_SECONDS", -1.0)
    assert complaints(planted(lambda data: data)) == ["took more than -1 s"]


def test_nothing_is_found_where_nothing_is_wrong():
    assert complaints(planted(lambda data: data, lambda value: value)) == []


def test_what_was_found_is_shortened_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "FOUND", tmp_path)
    parser = planted(lambda data: {b"\x07": 1}[b""] if b"\x07" in data else data)
    data = bytes(range(200)) * 3
    complaint = outcome(parser, data)[1]
    place = engine.keep(parser, shortened(parser, data, complaint))
    assert place.read_bytes() == b"\x07"
    assert regressions(parser) == [place]


def test_an_empty_corpus_is_an_error():
    with pytest.raises(FileNotFoundError, match="the corpus of nothing is empty"):
        run(Parser("nothing", bytes, ()), Random(1), seconds=1, inputs=1)


def test_changes_reach_deep_nesting_and_every_member():
    """Of a document: each member is replaced or dropped, and depth is beyond any parser's."""
    document = {"format": 1, "list": [1, {"inner": "text"}], "text": "value"}
    data, random = json.dumps(document).encode(), Random(1)
    made = [mutate(random, data, [data]) for _ in range(4000)]
    assert any(one.count(b"[") > 4000 for one in made)
    parsed = []
    for one in made:
        try:
            parsed.append(json.loads(one))
        except (ValueError, RecursionError):
            continue
    shapes = [one for one in parsed if isinstance(one, dict)]
    for name, value in document.items():
        assert any(name not in one for one in shapes)
        assert any(one.get(name, value) != value for one in shapes)
    assert len(parsed) > 1000
