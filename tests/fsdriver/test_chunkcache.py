"""The bound on kept plaintext holds over all files, and what is dropped is wiped."""

import pytest

from fsdriver.chunkcache import ChunkCache, FileChunks
from tests.fsdriver.bench import SIZE, Bench


@pytest.fixture
def cache():
    return ChunkCache(10 * SIZE)


def filled(cache, chunks, index, letter):
    buffer = cache.buffer(SIZE)
    buffer[:] = letter * SIZE
    return chunks.put(index, buffer)


def test_the_chunk_that_was_not_used_for_longest_goes_first(cache):
    one, two = FileChunks(cache), FileChunks(cache)
    for index in range(5):
        filled(cache, one, index, b"1")
        filled(cache, two, index, b"2")
    assert one.get(0) is not None
    filled(cache, one, 5, b"3")
    assert len(cache.recent) == 10
    assert sorted(one.chunks) == [0, 1, 2, 3, 4, 5]
    assert sorted(two.chunks) == [1, 2, 3, 4]
    assert bytes(one.chunks[5].plaintext) == b"3" * SIZE


def test_what_is_dropped_is_wiped_and_not_found(cache):
    one = FileChunks(cache)
    views = [filled(cache, one, index, b"1").plaintext for index in range(9)]
    one.drop_from(3)
    assert sorted(one.chunks) == [0, 1, 2]
    assert not any(any(view) for view in views[3:])
    one.drop([0, 7])
    assert sorted(one.chunks) == [1, 2]
    assert len(cache.recent) == 2


def test_reads_and_writes_over_a_cache_that_is_too_small_see_the_newest(tmp_path):
    bench = Bench(tmp_path)
    content = bench.mount.create()
    content._buffers.chunks._limit = 0
    expected = bytearray(b"a" * 40 * SIZE)
    content.write(0, expected)
    for round_ in range(3):
        for index in range(40):
            at = index * SIZE + 100 * round_
            content.write(at, b"%3d" % index)
            expected[at : at + 3] = b"%3d" % index
            assert content.read(at + 50, SIZE) == expected[at + 50 : at + 50 + SIZE]
    assert len(content._buffers.chunks.recent) == 8
    assert content.read(0, 40 * SIZE) == expected
    bench.close()
