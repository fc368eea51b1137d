"""Small writes as deltas: over their chunk, folded, after stops, without a key, tampered with."""

import errno
import os
import shutil

import pytest

from fsdriver.backing import Backing
from fsdriver.errors import ChunkInvalid
from fsdriver.format import delta
from fsdriver.format.geometry import HEADER_SIZE
from fsdriver.rebinding import rebind
from fsdriver.sessions import Session
from tests.fsdriver.bench import SIZE, STRIDE


class Full(Backing):
    """A store without room for what is longer than so much."""

    longest = 1 << 40

    def write(self, descriptor, buffers, offset):
        if sum(map(len, buffers)) > self.longest:
            raise OSError(errno.ENOSPC, "full")
        super().write(descriptor, buffers, offset)


@pytest.fixture
def backing():
    return Full()


@pytest.fixture
def content(bench):
    """Of four chunks, with a transaction in the journal and nothing to fold."""
    made = bench.mount.create()
    made.write(0, b"a" * 4 * SIZE)
    made.write(0, b"begun")
    return made


BEGUN = b"begun".ljust(4 * SIZE, b"a")
WRITES = (
    (10, b"one"),
    (SIZE - 3, b"over a border"),
    (12, b"two"),
    (4 * SIZE - 1, b"grown"),
    (4 * SIZE + 4, b"x" * 2000),
    (4 * SIZE + 2004, b"y" * 2000),
    (4 * SIZE + 4004, b"into another chunk" * 20),
)


def written(content, writes=WRITES) -> bytes:
    """What the file then holds."""
    expected = bytearray(BEGUN)
    for offset, data in writes:
        content.write(offset, data)
        expected[offset : offset + len(data)] = data
    return bytes(expected)


def read(content) -> bytes:
    return bytes(content.read(0, content.size + 1))


def frames(bench) -> int:
    return bench.mount.journal.current.sequence


def test_a_small_write_is_a_delta_of_its_own_length(bench, content):
    before = bench.mount.journal.current.size
    place = (bench.mount.store / "file").read_bytes()
    expected = written(content)
    grown = bench.mount.journal.current.size - before
    assert grown == sum(len(data) + delta.OVERHEAD for _offset, data in WRITES)
    assert (bench.mount.store / "file").read_bytes() == place
    assert content.size == len(expected)
    assert read(content) == expected
    assert content.read(SIZE - 5, 20) == expected[SIZE - 5 : SIZE + 15]
    assert bench.next().read() == expected
    bench.mount.settle()
    assert read(content) == expected
    assert len((bench.mount.store / "file").read_bytes()) == HEADER_SIZE + 5 * STRIDE + 40 + (
        len(expected) - 5 * SIZE
    )
    assert bench.next().read() == expected


def test_chunks_that_are_not_kept_any_more_are_made_out_again(bench, content):
    expected = written(content)
    content.forget()
    assert read(content) == expected
    content.forget()
    assert content.read(5, SIZE) == expected[5 : SIZE + 5]
    content.forget()
    bench.mount.settle()
    assert read(content) == expected


def test_after_any_number_of_deltas_a_stop_leaves_them_all(bench, content):
    for count in range(len(WRITES)):
        expected = written(content, WRITES[: count + 1])
        assert bench.next().read() == expected
    name = ".ckfs/journal/a"
    whole = bench.mount.journal.current.size
    store = bench.copied()
    os.truncate(store / name, whole - 1)
    torn = bench.on(store, Session(frozenset({bench.mount.session.id})))
    before = bytearray(expected)
    offset, data = WRITES[-1]
    del before[offset:]
    assert torn.read() == before
    assert len(data) == len(expected) - len(before)


def test_many_deltas_of_one_chunk_become_one(bench, content):
    expected = bytearray(BEGUN)
    for count in range(1000):
        content.write(count, b"%d" % (count % 10))
        expected[count] = ord("0") + count % 10
    assert len(content.file.overlay.dirty[0]) <= 128
    content.forget()
    assert read(content) == expected
    assert bench.next().read() == expected


def test_every_other_change_folds_first(bench, content):
    for change in (
        lambda: content.write(SIZE, b"w" * SIZE),
        lambda: content.truncate(3 * SIZE + 5),
        lambda: content.truncate(6 * SIZE),
        lambda: rebind(content.file, (b"n" * 16,)),
        content.close,
    ):
        content.write(10, b"delta")
        assert content.file.overlay is not None
        generation = content.file.state.generation
        expected = read(content)
        change()
        assert content.file.overlay is None
        assert content.file.state.generation > generation
        assert read(content)[:SIZE] == expected[:SIZE]
        assert bench.next().read() == read(content)


# Parts


def large(bench, chunks=600):
    content = bench.mount.create("large")
    content.write(0, b"a" * chunks * SIZE)
    content.write(0, b"begun")
    expected = bytearray(b"begun".ljust(chunks * SIZE, b"a"))
    for index in range(1, chunks):
        content.write(index * SIZE + 7, b"%5d" % index)
        expected[index * SIZE + 7 : index * SIZE + 12] = b"%5d" % index
    return content, expected


def test_a_large_fold_comes_in_parts_and_a_stop_between_them_costs_nothing(bench):
    content, expected = large(bench)
    steps = 0
    for _step in content.file.overlay.fold():
        steps += 1
        content.write(9 * SIZE + 100 * steps, b"meanwhile")
        expected[9 * SIZE + 100 * steps : 9 * SIZE + 100 * steps + 9] = b"meanwhile"
        assert bench.next().read("large") == expected
    assert steps >= 2
    assert content.file.overlay is None
    assert read(content) == expected
    assert bench.next().read("large") == expected
    bench.mount.settle()
    assert read(content) == expected
    assert bench.next().read("large") == expected


def test_another_change_in_the_middle_of_a_fold_takes_its_parts_along(bench):
    content, expected = large(bench)
    next(content.file.overlay.fold())
    content.truncate(300 * SIZE + 9)
    del expected[300 * SIZE + 9 :]
    assert read(content) == expected
    assert bench.next().read("large") == expected


def test_a_fold_that_finds_no_room_leaves_the_deltas(bench, content, backing):
    expected = written(content)
    backing.longest = 1000
    with pytest.raises(OSError, match="full"):
        bench.mount.fold()
    assert content.file.overlay is not None
    content.write(20, b"another")
    expected = expected[:20] + b"another" + expected[27:]
    assert read(content) == expected
    assert bench.next().read() == expected
    backing.longest = 1 << 40
    bench.mount.settle()
    assert read(content) == expected
    assert bench.next().read() == expected


# Without a key


def test_deltas_wait_for_their_key_through_stops_and_checkpoints(bench, content):
    expected = written(content)
    store = bench.copied()
    unended = frozenset({bench.mount.session.id})
    for _stop in range(3):
        mount = bench.on(store, Session(unended))
        mount.fold(keys=False)
        assert sum(len(file.deltas) for file in mount.journal.files.values()) == len(WRITES)
        for _checkpoint in range(2):
            epoch = mount.journal.rotate()
            assert mount.carry()
            mount.journal.sync(epoch)
            mount.journal.release(epoch, mount.journal.begin_anew(epoch))
        assert mount.session.carried
        unended |= {mount.session.id}
        place = store.with_name(store.name + " again")
        shutil.copytree(store, place)
        store = place
    assert bench.on(store, Session(unended)).read() == expected
    mount = bench.on(store, Session(unended | {mount.session.id}))
    mount.settle()
    assert mount.journal.files == {}
    assert mount.read() == expected


def test_a_copied_stores_links_get_what_was_not_folded(bench, content):
    expected = written(content)
    os.link(bench.mount.store / "file", bench.mount.store / "link")
    mount = bench.next()
    assert (mount.store / "file").stat().st_nlink == 1
    mount.settle()
    assert mount.read("file") == mount.read("link") == expected


def test_what_lost_its_header_in_a_power_cut_is_left_out(bench, content):
    """The older journal did not reach the disk, the newer one did."""
    bench.mount.settle()
    content.write(0, b"lost header")
    bench.mount.fold()
    bench.mount.journal.rotate()
    content.write(20, b"lost delta")
    store = bench.copied()
    older = store / ".ckfs/journal" / "a"
    with older.open("r+b") as file:
        file.seek(80)
        file.write(bytes(64))
    mount = bench.on(store, Session(frozenset({bench.mount.session.id})))
    assert mount.read() == BEGUN
    assert mount.journal.lengths == {}
    mount.settle()
    assert mount.read() == BEGUN


# Changes in the store


def test_a_delta_that_was_changed_makes_its_chunk_unreadable_and_no_older_one_readable(
    bench, content
):
    expected = written(content, WRITES[:1])
    content.forget()
    place = content.file.overlay.dirty[0][0].position
    with (bench.mount.store / ".ckfs/journal/a").open("r+b") as file:
        file.seek(place + 25)
        file.write(b"?")
    with pytest.raises(ChunkInvalid):
        content.read(0, 5)
    assert content.read(SIZE, 5) == expected[SIZE : SIZE + 5]
    bench.mount.settle()
    with pytest.raises(ChunkInvalid):
        content.read(0, 5)
    content.write(0, b"z" * SIZE)
    assert read(content) == b"z" * SIZE + expected[SIZE:]


def test_a_delta_stands_only_on_what_was_authentic(bench, content):
    bench.mount.settle()
    content.write(2 * SIZE, b"begun")
    content.forget()
    with (bench.mount.store / "file").open("r+b") as file:
        file.seek(HEADER_SIZE + 100)
        file.write(b"?")
    count = frames(bench)
    with pytest.raises(ChunkInvalid):
        content.write(200, b"over it")
    assert frames(bench) == count
    assert content.file.overlay is None
