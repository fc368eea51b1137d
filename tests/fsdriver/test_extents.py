"""The extent map against a plain set of chunk indexes, and its bytes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsdriver.errors import HeaderInvalid
from fsdriver.format.extents import ExtentMap

LIMIT = 60
ranges = st.tuples(st.integers(0, LIMIT), st.integers(0, LIMIT)).map(sorted)
steps = st.lists(st.tuples(st.sampled_from(["add", "remove"]), ranges), max_size=30)


def built(done) -> tuple[ExtentMap, set[int]]:
    extents, model = ExtentMap(), set()
    for verb, (first, end) in done:
        if first == end:
            continue
        getattr(extents, verb)(first, end)
        if verb == "add":
            model |= set(range(first, end))
        else:
            model -= set(range(first, end))
    return extents, model


@given(steps)
def test_it_is_a_set_of_indexes(done):
    extents, model = built(done)
    assert {index for index in range(LIMIT + 2) if index in extents} == model
    runs = list(extents.runs())
    assert {index for first, end in runs for index in range(first, end)} == model
    assert all(first < end for first, end in runs)
    assert all(end < following for (_, end), (following, _) in itertools.pairwise(runs))
    assert len(extents) == len(runs)
    missing = {index for first, end in extents.holes(LIMIT) for index in range(first, end)}
    assert missing == set(range(LIMIT)) - model
    assert extents.is_dense(LIMIT) == (model == set(range(LIMIT)))


@given(steps, ranges)
def test_segments_cut_a_stretch_into_what_is_there_and_what_is_not(done, stretch):
    extents, model = built(done)
    first, end = stretch
    segments = list(extents.segments(first, end))
    covered = [index for low, high, _present in segments for index in range(low, high)]
    assert covered == list(range(first, end))
    for low, high, present in segments:
        assert all((index in model) == present for index in range(low, high))
    assert all(one[2] != other[2] for one, other in itertools.pairwise(segments))


@given(steps)
def test_packing_comes_back(done):
    extents, _model = built(done)
    packed = extents.pack()
    assert ExtentMap.parse(packed, LIMIT) == extents
    assert ExtentMap.parse(packed, LIMIT).pack() == packed


@given(st.binary(max_size=40), st.integers(0, 1 << 51))
def test_no_two_packed_forms_mean_the_same(packed, chunk_count):
    try:
        extents = ExtentMap.parse(packed, chunk_count)
    except HeaderInvalid:
        return
    assert extents.pack() == packed
    assert all(end <= chunk_count for _first, end in extents.runs())


@pytest.mark.parametrize(
    ("runs", "packed"),
    [
        ([], ""),
        ([(0, 1)], "0001"),
        ([(1, 2)], "0101"),
        ([(0, 127)], "007f"),
        ([(0, 128)], "008001"),
        ([(5, 6), (300, 1 << 20)], "0501a602d4fd3f"),
        ([((1 << 51) - 1, 1 << 51)], "ffffffffffffff0301"),
    ],
)
def test_the_examples_of_the_specification(runs, packed):
    extents = ExtentMap()
    for first, end in runs:
        extents.add(first, end)
    assert extents.pack().hex() == packed
    assert ExtentMap.parse(bytes.fromhex(packed), 1 << 51) == extents


@pytest.mark.parametrize(
    ("packed", "chunk_count", "reason"),
    [
        ("00", 9, "inside a run"),
        ("01", 9, "inside a run"),
        ("000101", 9, "inside a run"),
        ("80", 9, "inside a run"),
        ("000180", 9, "inside a run"),
        ("0000", 9, "shortest"),
        ("010100", 9, "shortest"),
        ("8000", 9, "shortest"),
        ("00818000", 9, "shortest"),
        ("000a", 9, "beyond the end"),
        ("0a01", 9, "beyond the end"),
        ("00808001", 9, "beyond the end"),
        ("0001", 0, "beyond the end"),
        ("ff" * 30, 1 << 51, "beyond the end"),
    ],
)
def test_packed_forms_that_no_writer_writes(packed, chunk_count, reason):
    with pytest.raises(HeaderInvalid, match=reason):
        ExtentMap.parse(bytes.fromhex(packed), chunk_count)


def test_the_map_of_a_dense_file():
    assert ExtentMap.full(0) == ExtentMap()
    assert list(ExtentMap.full(3).runs()) == [(0, 3)]
    assert ExtentMap().is_dense(0)
    assert not ExtentMap().is_dense(1)
    assert ExtentMap() != object()
    with pytest.raises(TypeError, match="unhashable"):
        hash(ExtentMap())
