"""Reads over two epochs, cuts, failures; and replays by a driver that was told of the stop."""

import errno
import os
import shutil

import pytest

from fsdriver.backing import Backing
from fsdriver.sessions import Session
from tests.fsdriver.bench import SIZE, STRIDE


class Failing(Backing):
    """A store whose nth change from now fails, and whose syncs fail while they are told to."""

    left = -1
    syncs_fail = False

    def _counted(self):
        self.left -= self.left >= 0
        if self.left == 0:
            self.left = -1
            raise OSError(errno.EIO, "failed")

    def write(self, *arguments):
        self._counted()
        super().write(*arguments)

    def truncate(self, *arguments):
        self._counted()
        super().truncate(*arguments)

    def clear(self, *arguments):
        self._counted()
        super().clear(*arguments)

    def sync_data(self, descriptor):
        if self.syncs_fail:
            raise OSError(errno.EIO, "failed")
        super().sync_data(descriptor)


@pytest.fixture
def backing():
    return Failing()


@pytest.fixture
def content(bench):
    made = bench.mount.create()
    made.write(0, b"a" * 4 * SIZE)
    return made


def read(content) -> bytes:
    return bytes(content.read(0, content.size + 1))


def in_place(bench) -> bytes:
    return (bench.mount.store / "file").read_bytes()


def test_nothing_that_is_replaced_is_touched_before_it_is_put_in_place(bench, content):
    before = in_place(bench)
    content.write(10, b"new")
    content.truncate(2 * SIZE)
    content.write(SIZE, b"more")
    assert in_place(bench) == before
    expected = (b"a" * 10 + b"new").ljust(SIZE, b"a") + b"more".ljust(SIZE, b"a")
    assert read(content) == expected
    bench.mount.settle()
    assert len(in_place(bench)) == 512 + 2 * STRIDE
    assert read(content) == expected
    assert bench.mount.journal.files == {}
    assert bench.mount.journal.lengths == {}


def test_reads_see_the_newest_of_two_epochs(bench, content):
    journal = bench.mount.journal
    content.write(0, b"old 0")
    content.write(SIZE, b"old 1")
    bench.mount.fold()
    first = journal.rotate()
    content.write(SIZE, b"new 1")
    content.write(2 * SIZE, b"new 2")
    expected = bytearray(b"a" * 4 * SIZE)
    for index, text in ((0, b"old 0"), (1, b"new 1"), (2, b"new 2")):
        expected[index * SIZE : index * SIZE + 5] = text
    assert read(content) == expected
    journal.sync(first)
    for file in list(first.files.values()):
        for _bytes in journal.apply(first, file):
            pass
    assert read(content) == expected
    journal.release(first, journal.begin_anew(first))
    assert read(content) == expected
    assert bench.next().read() == expected


def test_what_was_cut_off_does_not_come_back(bench, content):
    content.write(3 * SIZE, b"b" * SIZE)
    bench.mount.fold()
    bench.mount.journal.rotate()
    content.truncate(SIZE)
    content.truncate(4 * SIZE)
    expected = b"a" * SIZE + bytes(3 * SIZE)
    assert read(content) == expected
    assert bench.next().read() == expected
    content.write(2 * SIZE, b"c" * SIZE)
    expected = expected[: 2 * SIZE] + b"c" * SIZE + bytes(SIZE)
    assert read(content) == expected
    assert bench.next().read() == expected


def test_an_append_that_failed_changes_nothing(bench, content, backing):
    journal = bench.mount.journal
    content.write(0, b"first")
    expected = read(content)
    before = (journal.current.size, journal.current.sequence, dict(journal.lengths))
    backing.left = 1
    with pytest.raises(OSError, match="failed"):
        content.write(0, b"second")
    assert (journal.current.size, journal.current.sequence, dict(journal.lengths)) == before
    assert read(content) == expected
    assert bench.next().read() == expected
    content.write(0, b"third")
    assert bench.next().read() == b"third" + expected[5:]


def test_after_a_sync_that_failed_nothing_is_taken_any_more(bench, content, backing):
    content.write(0, b"first")
    expected = read(content)
    backing.syncs_fail = True
    with pytest.raises(OSError, match="failed"):
        bench.mount.journal.sync(bench.mount.journal.current)
    backing.syncs_fail = False
    with pytest.raises(OSError, match="failed before; unmount"):
        content.write(0, b"second")
    assert read(content) == expected


# Replays


def test_a_file_is_found_by_its_inode_and_by_its_id_where_the_store_was_copied(bench, content):
    content.write(0, b"new")
    expected = read(content)
    unended = Session(frozenset({bench.mount.session.id}))
    copied = bench.next()  # other inode numbers
    assert copied.replayed == (1, 1, 0)
    assert copied.read() == expected
    os.rename(bench.mount.store / "file", bench.mount.store / "renamed")
    same = bench.on(bench.mount.store, unended)
    assert same.replayed == (1, 1, 0)
    assert same.read("renamed") == expected


def test_a_file_that_was_deleted_is_missed_and_no_other_touched(bench, content):
    other = bench.mount.create("other")
    other.write(0, b"other" * 1000)
    content.write(0, b"new")
    other.write(0, b"OTHER")
    store = bench.copied()
    (store / "file").unlink()
    mount = bench.on(store, Session(frozenset({bench.mount.session.id})))
    assert mount.replayed == (2, 1, 1)
    assert mount.read("other") == b"OTHER" + b"other" * 999


def changed(bench, content) -> bytes:
    """Two epochs with cuts, images and lengths; the older one not in its place."""
    content.write(10, b"new")
    content.truncate(3 * SIZE + 5)
    content.write(5 * SIZE, b"far")
    bench.mount.fold()
    bench.mount.journal.rotate()
    content.truncate(2 * SIZE)
    content.write(SIZE, b"x" * 3 * SIZE)
    content.truncate(8 * SIZE)
    return read(content)


def test_a_replay_may_be_stopped_at_every_call_and_begun_again(bench, content):
    expected = changed(bench, content)
    store = bench.copied()
    for calls in range(1, 100):
        place = store.with_name(f"stopped {calls}")
        shutil.copytree(store, place)
        stopping = Failing()
        stopping.left = calls
        unended = frozenset({bench.mount.session.id})
        try:
            bench.on(place, Session(unended), stopping)
        except OSError:
            assert bench.on(place, Session(unended)).read() == expected, calls
        else:
            break
    assert calls > 5
    assert bench.on(place, Session(unended)).read() == expected


def test_a_journal_that_is_torn_anywhere_gives_what_was_before(bench, content):
    states = [read(content)]
    sizes = [bench.mount.journal.current.size]
    for text in (b"one", b"two"):
        content.write(SIZE, text)
        states.append(read(content))
        sizes.append(bench.mount.journal.current.size)
    name = ".ckfs/journal/a"
    assert (bench.mount.store / name).stat().st_size == sizes[-1]
    for length in (*sizes, *(one - 1 for one in sizes[1:]), *(one + 100 for one in sizes[:-1])):
        store = bench.copied()
        os.truncate(store / name, length)
        whole = sum(one <= length for one in sizes) - 1
        mount = bench.on(store, Session(frozenset({bench.mount.session.id})))
        assert mount.replayed.transactions == whole
        assert mount.read() == states[whole]


def test_a_driver_begins_its_journal_anew_only_when_the_older_one_is_in_place(bench, content):
    """Stopped between the two heads, it must not leave the older transactions alone."""
    expected = changed(bench, content)
    for calls in range(1, 100):
        store = bench.copied()
        stopping = Failing()
        stopping.left = calls
        unended = frozenset({bench.mount.session.id})
        try:
            bench.on(store, Session(unended), stopping)
        except OSError:
            continue
        break
    for late in range(calls - 6, calls):
        store = bench.copied()
        stopping = Failing()
        stopping.left = late
        with pytest.raises(OSError, match="failed"):
            bench.on(store, Session(unended), stopping)
        assert bench.on(store, Session(unended)).read() == expected, late
