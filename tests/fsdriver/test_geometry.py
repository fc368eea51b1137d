"""The arithmetic of chunks, and that it goes back and forth without loss."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsdriver.errors import SizeMismatch
from fsdriver.format.geometry import (
    CHUNK_SIZES,
    HEADER_SIZE,
    OFFSET_MAX,
    RECORD_OVERHEAD,
    Geometry,
)

chunk_sizes = st.sampled_from(CHUNK_SIZES)
sizes = st.integers(0, 1 << 62)


@pytest.mark.parametrize(
    ("size", "chunks", "backing"),
    [
        (0, 0, 512),
        (1, 1, 553),
        (5000, 1, 5552),
        (65535, 1, 66087),
        (65536, 1, 66088),
        (65537, 2, 66129),
        (1 << 30, 16384, 1074397696),
    ],
)
def test_the_worked_totals_of_the_specification(size, chunks, backing):
    geometry = Geometry(65536)
    assert geometry.chunk_count(size) == chunks
    assert geometry.ciphertext_size(size) == backing
    assert geometry.plaintext_size(backing) == size


@given(chunk_sizes, sizes)
def test_the_plaintext_size_is_the_inverse(chunk_size, size):
    geometry = Geometry(chunk_size)
    assert geometry.plaintext_size(geometry.ciphertext_size(size)) == size


@given(chunk_sizes, st.integers(0, 1 << 62))
def test_a_backing_length_is_one_of_a_plaintext_or_refused(chunk_size, length):
    geometry = Geometry(chunk_size)
    try:
        size = geometry.plaintext_size(length)
    except SizeMismatch:
        rest = (length - HEADER_SIZE) % geometry.stride
        assert length < HEADER_SIZE or 0 < rest <= RECORD_OVERHEAD
    else:
        assert geometry.ciphertext_size(size) == length


@pytest.mark.parametrize("length", [0, 1, 511, 513, 512 + 40, 512 + 4136 + 1, 512 + 4136 + 40])
def test_lengths_that_no_file_has(length):
    with pytest.raises(SizeMismatch):
        Geometry(4096).plaintext_size(length)


@given(chunk_sizes, st.integers(1, 1 << 40))
def test_records_lie_one_behind_the_other(chunk_size, size):
    geometry = Geometry(chunk_size)
    chunks = geometry.chunk_count(size)
    last = chunks - 1
    length = geometry.chunk_length(last, size)
    assert 1 <= length <= chunk_size
    assert last * chunk_size + length == size
    assert geometry.record_offset(0) == HEADER_SIZE
    assert geometry.record_offset(last) + length + RECORD_OVERHEAD == geometry.ciphertext_size(size)
    assert geometry.run_length(0, chunks, size) == geometry.ciphertext_size(size) - HEADER_SIZE


@given(chunk_sizes, st.integers(1, 1 << 40), st.data())
def test_the_length_of_a_run_is_the_sum_of_its_records(chunk_size, size, data):
    geometry = Geometry(chunk_size)
    chunks = geometry.chunk_count(size)
    first = data.draw(st.integers(max(0, chunks - 20), chunks - 1))
    end = data.draw(st.integers(first + 1, chunks))
    expected = sum(
        geometry.chunk_length(index, size) + RECORD_OVERHEAD for index in range(first, end)
    )
    assert geometry.run_length(first, end, size) == expected


@pytest.mark.parametrize("chunk_size", [0, 1, 2048, 4095, 4097, 12288, 1 << 21, -4096])
def test_a_chunk_size_that_no_header_may_name(chunk_size):
    with pytest.raises(ValueError, match="no chunk size"):
        Geometry(chunk_size)


def test_a_size_that_no_backing_file_can_have_is_too_big():
    geometry = Geometry(4096)
    most = geometry.plaintext_size(OFFSET_MAX)
    geometry.require_size(most)
    with pytest.raises(OSError) as caught:  # noqa: PT011 its errno is compared
        geometry.require_size(most + 4096)
    assert caught.value.errno == errno.EFBIG
