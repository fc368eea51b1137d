"""A sealed file when the store fails under it, or a driver stopped in the middle."""

import errno

import pytest

from fsdriver.backing import Backing
from fsdriver.format.header import MAP_SIZE
from tests.fsdriver.bench import SIZE, Bench


class Failing(Backing):
    """A store that can be told to be full."""

    full = False

    def write(self, descriptor, buffers, offset):
        if self.full:
            raise OSError(errno.ENOSPC, "full")
        super().write(descriptor, buffers, offset)


@pytest.fixture
def backing():
    return Failing()


@pytest.fixture
def bench(backing, tmp_path):
    made = Bench(tmp_path, backing)
    yield made
    made.close()


@pytest.fixture
def content(bench):
    return bench.mount.create()


def test_a_file_that_could_not_be_marked_dirty_is_marked_the_next_time(bench, content, backing):
    content.write(0, b"a" * SIZE)
    backing.full = True
    with pytest.raises(OSError, match="full"):
        content.write(SIZE, b"b" * SIZE)
    backing.full = False
    assert not bench.next().sealed().state.dirty
    content.write(SIZE, b"c" * SIZE)
    assert bench.next().sealed().state.dirty
    assert bench.next().read() == b"a" * SIZE + b"c" * SIZE
    content.seal()
    assert not bench.next().sealed().state.dirty
    assert bench.next().read() == b"a" * SIZE + b"c" * SIZE


def test_a_seal_that_failed_is_made_up_for(bench, content, backing):
    content.write(0, b"a" * SIZE)
    content.write(SIZE, b"b" * SIZE)
    backing.full = True
    with pytest.raises(OSError, match="full"):
        content.seal()
    backing.full = False
    assert bench.next().sealed().state.dirty
    content.seal()
    assert not bench.next().sealed().state.dirty


def write_every_other_chunk(content, chunks: int) -> None:
    content.truncate(chunks * SIZE)
    for index in range(0, chunks, 2):
        content.write(index * SIZE, b"x" * SIZE)
    content.seal()


@pytest.mark.parametrize("settled", [False, True])
def test_pages_of_an_older_map_are_no_chunks_after_a_stop(bench, content, settled):
    """All holes that are left hold such pages, so no slot is empty; they are holes still."""
    chunks = 2 * MAP_SIZE
    write_every_other_chunk(content, chunks)
    pages = {page.chunk_index for page in content.file.state.extent_pages}
    assert pages
    if settled:
        bench.mount.settle()
    for index in range(1, chunks, 2):
        if index not in pages:
            content.write(index * SIZE, b"x" * SIZE)
    content.seal()
    assert not content.file.state.extent_pages
    content.write(0, b"y" * SIZE)
    expected = bytearray(b"y" * SIZE + b"x" * (chunks - 1) * SIZE)
    for index in pages:
        expected[index * SIZE : (index + 1) * SIZE] = bytes(SIZE)
    assert bench.next().read() == expected
    if settled:
        bench.mount.settle()
        assert bench.next().read() == expected


@pytest.mark.parametrize("settled", [False, True])
def test_a_write_to_where_a_page_of_the_map_lies_moves_the_page(bench, content, settled):
    chunks = 2 * MAP_SIZE
    write_every_other_chunk(content, chunks)
    if settled:
        bench.mount.settle()
    (page,) = content.file.state.extent_pages
    content.write(page.chunk_index * SIZE, b"z" * SIZE)
    (moved,) = content.file.state.extent_pages
    assert moved.chunk_index != page.chunk_index
    expected = bytearray((b"x" * SIZE + bytes(SIZE)) * (chunks // 2))
    expected[page.chunk_index * SIZE : (page.chunk_index + 1) * SIZE] = b"z" * SIZE
    assert bench.next().read() == expected
