"""A sealed file when the store fails under it, or a driver stopped in the middle."""

import errno
import os
import types

import pytest

from fsdriver.backing import Backing
from fsdriver.buffers import Buffers
from fsdriver.format.header import MAP_SIZE
from fsdriver.openfile import OpenFile
from fsdriver.sealedfile import SealedFile
from fsdriver.sessions import Session
from keyhierarchy.wrapping import FileKeyWrapper

SIZE = 4096


class Lease(types.SimpleNamespace):
    """The keys of a site that is always there."""

    def __init__(self) -> None:
        wrapper = FileKeyWrapper(bytes(32), site_id=b"s" * 16, generation=1)
        super().__init__(site_id=b"s" * 16, generation=1, valid=True, deadline=float("inf"))
        self.wrap_file_key = lambda file_id, key, _generation=1: wrapper.wrap(file_id, key)
        self.unwrap_file_key = lambda file_id, _generation, wrapped: wrapper.unwrap(
            file_id, wrapped
        )


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
def content(backing, tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    file = SealedFile.create(backing, descriptor, Lease(), Session(), SIZE, (b"b" * 16,))
    yield OpenFile(file, Buffers(), vetted=True)
    os.close(descriptor)


def opened(content) -> SealedFile:
    """What the next driver finds in the store, on a host that knows that this one was killed."""
    file = content.file
    session = Session(frozenset({file.session.id}))
    return SealedFile.open(file.backing, file.descriptor, file.lease, session, writable=True)


def test_a_file_that_could_not_be_marked_dirty_is_marked_the_next_time(content, backing):
    content.write(0, b"a" * SIZE)
    backing.full = True
    with pytest.raises(OSError, match="full"):
        content.write(0, b"b" * SIZE)
    backing.full = False
    assert not opened(content).state.dirty
    content.write(0, b"c" * SIZE)
    assert opened(content).state.dirty
    content.seal()
    again = OpenFile(opened(content), Buffers())
    assert again.read(0, SIZE) == b"c" * SIZE


def test_a_seal_that_failed_is_made_up_for(content, backing):
    content.write(0, b"a" * SIZE)
    content.write(0, b"b" * SIZE)
    backing.full = True
    with pytest.raises(OSError, match="full"):
        content.seal()
    backing.full = False
    assert opened(content).state.dirty
    content.seal()
    assert not opened(content).state.dirty


def test_pages_of_an_older_map_are_no_chunks_after_a_stop(content):
    """All holes that are left hold such pages, so no slot is empty; they are holes still."""
    chunks = 2 * MAP_SIZE
    content.truncate(chunks * SIZE)
    for index in range(0, chunks, 2):
        content.write(index * SIZE, b"x" * SIZE)
    content.seal()
    pages = {page.chunk_index for page in content.file.state.extent_pages}
    assert pages
    for index in range(1, chunks, 2):
        if index not in pages:
            content.write(index * SIZE, b"x" * SIZE)
    content.seal()
    assert not content.file.state.extent_pages
    content.write(0, b"y" * SIZE)
    found = opened(content)
    assert found.state.dirty
    found.recover()
    again = OpenFile(found, Buffers())
    for index in pages:
        assert again.read(index * SIZE, SIZE) == bytes(SIZE)
    assert again.read(0, SIZE) == b"y" * SIZE


def test_a_map_in_pages_that_is_lost_names_no_chunk(content):
    """Its pages lie in holes, which writes may fill before the next seal: no reason to refuse."""
    chunks = 2 * MAP_SIZE
    content.truncate(chunks * SIZE)
    for index in range(0, chunks, 2):
        content.write(index * SIZE, b"x" * SIZE)
    content.seal()
    (page,) = content.file.state.extent_pages
    content.write(page.chunk_index * SIZE, b"z" * SIZE)
    found = opened(content)
    found.recover()
    again = OpenFile(found, Buffers())
    assert again.read(page.chunk_index * SIZE, SIZE) == b"z" * SIZE
    assert again.read(0, 2 * SIZE)[:SIZE] == b"x" * SIZE
