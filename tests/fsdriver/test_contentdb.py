"""The content database against a plain model: what is noted, committed, and left by a stop."""

import os
import shutil
import sqlite3
import stat
import tempfile
import threading
from contextlib import closing

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fsdriver import contentdb
from fsdriver.contentdb import FILE_NAME, ContentDatabase, KnownPolicy
from fsdriver.contentdb_file import GENERATION_MAX
from fsdriver.errors import NotPermitted, StoreDamaged, StoreError

STORE = b"store id, 16 byt"
ROOT = b"the root folder."
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108


def an_id(number: int) -> bytes:
    return b"object%10d" % number


def opened(folder, *, complete=True) -> ContentDatabase:
    return ContentDatabase.open(os.path.join(folder, FILE_NAME), STORE, complete_if_new=complete)


def rows(folder, statement: str) -> list:
    with closing(sqlite3.connect(os.path.join(folder, FILE_NAME))) as connection:
        return connection.execute(statement).fetchall()


def after_power_cut(folder: str) -> str:
    """A folder with what the disk would hold now: no memory, shared or not, outlives it."""
    left = tempfile.mkdtemp(dir=os.path.dirname(folder))
    for name in (FILE_NAME, FILE_NAME + "-wal"):
        place = os.path.join(folder, name)
        if os.path.exists(place):
            shutil.copy(place, left)
    return left


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o700)
    return str(tmp_path)


@pytest.fixture
def database(folder):
    with closing(opened(folder)) as database:
        yield database


class Model(RuleBasedStateMachine):
    """`now` is what was noted, `disk` what the last commit that ended well took."""

    texts = st.sampled_from(["a", "b", "c", "\udcff", "long" * 60])
    objects = st.integers(0, 5).map(an_id)

    def __init__(self):
        super().__init__()
        self.top = tempfile.mkdtemp(dir=MEMORY)
        self.folder = os.path.join(self.top, "0")
        os.mkdir(self.folder, 0o700)
        self.database = None

    @initialize(complete=st.booleans())
    def make(self, complete):
        self.complete = complete
        self.entries = {ROOT: {}}
        self.generations = {}
        self.reconciled = {ROOT: 0} if complete else {}
        self.unclean = self.checkpoint = 0
        self.number = 100
        self.had_name = set()
        self.had_name_on_disk = set()
        self.spared = set()
        self.disk = self.snapshot()
        self.taken = self.commit = None
        self.open()

    def open(self):
        self.database = opened(self.folder, complete=self.complete)
        self.database._writer.execute("PRAGMA busy_timeout = 0")
        self.commit = self.taken = None

    def teardown(self):
        if self.database is not None:
            self.database.close()
        shutil.rmtree(self.top)

    def snapshot(self):
        return (
            {folder: dict(texts) for folder, texts in self.entries.items()},
            dict(self.generations),
            dict(self.reconciled),
            self.unclean,
            self.checkpoint,
        )

    def named(self, entries) -> set:
        return {one for texts in entries.values() for one in texts.values() if one}

    # Noting

    @rule(data=st.data(), text=texts, object_id=st.one_of(objects, st.just(b"")))
    def note(self, data, text, object_id):
        folder = data.draw(st.sampled_from(sorted(self.entries)))
        if self.entries[folder].get(text) in self.entries:
            return  # a folder, which is moved or removed by its own rules
        self.database.note_entry(folder, text, object_id)
        self.entries[folder][text] = object_id
        self.had_name.add(object_id)

    @rule(data=st.data(), text=texts)
    def forget(self, data, text):
        folder = data.draw(st.sampled_from(sorted(self.entries)))
        if self.entries[folder].get(text) in self.entries:
            return
        self.database.forget_entry(folder, text)
        self.entries[folder].pop(text, None)

    @rule(data=st.data(), text=texts, new_text=texts)
    def rename(self, data, text, new_text):
        folder = data.draw(st.sampled_from(sorted(self.entries)))
        new_folder = data.draw(st.sampled_from(sorted(self.entries)))
        moved = self.entries[folder].get(text)
        over = self.entries[new_folder].get(new_text)
        if moved is None or (folder, text) == (new_folder, new_text) or over in self.entries:
            return
        if moved in self.entries and new_folder != ROOT:
            return  # not into itself
        self.database.note_entry(new_folder, new_text, moved)
        self.database.forget_entry(folder, text)
        self.entries[new_folder][new_text] = self.entries[folder].pop(text)

    @rule(text=texts)
    def make_folder(self, text):
        if text in self.entries[ROOT]:
            return
        self.number += 1
        folder = an_id(self.number)
        self.database.note_folder(folder)
        self.database.note_generation(folder, 1)
        self.database.note_entry(ROOT, text, folder)
        self.entries[folder] = {}
        self.entries[ROOT][text] = folder
        self.reconciled[folder] = self.unclean
        self.generations[folder] = 1
        self.had_name.add(folder)

    @rule(data=st.data())
    def remove_folder_with_all_in_it(self, data):
        there = sorted(text for text, one in self.entries[ROOT].items() if one in self.entries)
        if there:
            text = data.draw(st.sampled_from(there))
            gone = self.entries[ROOT].pop(text)
            self.database.forget_entry(ROOT, text)
            self.entries.pop(gone)
            self.reconciled.pop(gone, None)

    @rule(object_id=objects, generation=st.integers(1, 9))
    def seal(self, object_id, generation):
        self.database.note_generation(object_id, generation)
        self.generations[object_id] = max(generation, self.generations.get(object_id, 0))

    # Commits

    @rule(checkpoint=st.one_of(st.none(), st.integers(1, 99)))
    def begin(self, checkpoint):
        """The one before may not have run, or have failed."""
        self.commit = self.database.begin_commit(checkpoint)
        if checkpoint is not None:
            self.checkpoint = checkpoint
        self.taken = self.snapshot()
        self.had_name_taken = set(self.had_name)

    @precondition(lambda self: self.commit is not None)
    @rule(fails=st.booleans())
    def end(self, fails):
        if not fails:
            self.commit()
            self.disk = self.taken
            self.had_name_on_disk = self.had_name_taken
            self.commit = None
            return
        with closing(sqlite3.connect(os.path.join(self.folder, FILE_NAME))) as other:
            other.execute("BEGIN IMMEDIATE")
            if self.commit.changes:
                with pytest.raises(StoreError, match="try again"):
                    self.commit()
        self.commit = None

    @precondition(lambda self: self.commit is not None)
    @rule()
    def abandon(self):
        assert self.commit.abandon()
        with pytest.raises(StoreError):
            self.commit()
        self.commit = None

    # Stops

    @rule(cut=st.booleans())
    def stop(self, cut):
        if cut:
            left = after_power_cut(self.folder)
            self.database.close()
            self.folder = left
        else:
            self.database.close()
        entries, generations, self.reconciled, self.unclean, self.checkpoint = self.disk
        self.entries = {folder: dict(texts) for folder, texts in entries.items()}
        self.open()
        # Whoever seals a file without a name has had it open since before.
        self.had_name = named = self.named(self.entries)
        self.had_name_on_disk = set(named)
        self.generations = {
            one: generation if one in named else self.database.committed_generation(one)
            for one, generation in generations.items()
        }
        self.disk = self.snapshot()
        self.database.begin_session(cut)
        self.unclean += cut

    @rule(data=st.data(), there=st.sets(texts))
    def reconcile(self, data, there):
        folder = data.draw(st.sampled_from(sorted(self.entries)))
        texts = self.entries[folder]
        there |= {text for text, one in texts.items() if one in self.entries}
        missing, added = self.database.reconcile(folder, there)
        assert missing == sorted(texts.keys() - there)
        assert added == sorted(there - texts.keys())
        for text in missing:
            self.spared.add(texts.pop(text))
        texts.update(dict.fromkeys(added, b""))
        self.reconciled[folder] = self.unclean

    # What must hold

    @invariant()
    def says_what_was_noted(self):
        if self.database is None:
            return
        for folder, texts in self.entries.items():
            assert self.database.expected(folder) == texts
            known = self.reconciled.get(folder)
            needs = not (self.complete and not self.unclean) and (
                known is None or known < self.unclean
            )
            assert self.database.needs_reconciling(folder) == needs
        for one, generation in self.generations.items():
            assert self.database.generation(one) == generation
        assert self.database.unclean == self.unclean
        assert self.database.checkpoint == self.checkpoint

    @invariant()
    def the_disk_has_what_was_committed(self):
        if self.database is None:
            return
        entries, generations, *_rest = self.disk
        named = self.named(entries)
        for one, generation in generations.items():
            found = self.database.committed_generation(one)
            if one in named:
                assert found == generation
            elif one in self.had_name_on_disk - self.spared:
                assert found == 0
        held = [
            (folder, os.fsencode(text), one)
            for folder, texts in entries.items()
            for text, one in texts.items()
        ]
        assert rows(self.folder, "SELECT * FROM entries ORDER BY folder, text") == sorted(held)
        counted = {}
        for _folder, _text, one in held:
            counted[one] = counted.get(one, 0) + 1
        for one, names in rows(self.folder, "SELECT object, names FROM objects"):
            assert counted.get(one, 0) == names
            if not names and one in self.had_name_on_disk:
                assert one in self.spared, "something is known of what nothing names"


Model.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class TestModel(Model.TestCase):
    @pytest.fixture(autouse=True)
    def with_little_memory(self, monkeypatch):
        monkeypatch.setattr(contentdb, "ENTRIES_HELD", 3)
        monkeypatch.setattr(contentdb, "_FOLDERS_HELD", 1)
        monkeypatch.setattr(contentdb, "_GENERATIONS_HELD", 3)
        monkeypatch.setattr(contentdb, "_MISSES", 1)


# What the model does not say


def test_a_new_database_is_private_and_knows_nothing(folder, database):
    status = os.stat(os.path.join(folder, FILE_NAME))
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert database.complete
    assert database.expected(ROOT) == {}
    assert database.generation(ROOT) == database.committed_generation(ROOT) == 0
    assert not database.needs_reconciling(ROOT)
    assert database.policies() == ()
    assert sorted(os.listdir(folder)) == [FILE_NAME, f"{FILE_NAME}-shm", f"{FILE_NAME}-wal"]
    for name in os.listdir(folder):
        assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600


def test_complete_or_learning_is_decided_once(folder):
    with closing(opened(folder, complete=False)) as database:
        assert not database.complete
        assert database.needs_reconciling(ROOT)
        assert database.reconcile(ROOT, ["a", "b"]) == ([], ["a", "b"])
        assert not database.needs_reconciling(ROOT)
        database.begin_commit()()
    with closing(opened(folder, complete=True)) as database:
        assert not database.complete
        assert not database.needs_reconciling(ROOT)


def test_each_folder_is_reconciled_once_after_each_unclean_stop(folder):
    with closing(opened(folder)) as database:
        database.begin_session(False)
        database.note_entry(ROOT, "kept", an_id(1))
        database.note_entry(ROOT, "lost", an_id(2))
        database.note_generation(an_id(2), 7)
        database.begin_commit()()
    for stops in (1, 2):
        with closing(opened(folder)) as database:
            database.begin_session(True)
            assert database.unclean == stops
            assert database.needs_reconciling(ROOT)
            database.note_folder(an_id(3))
            assert not database.needs_reconciling(an_id(3))
            missing, added = database.reconcile(ROOT, ["kept", f"new {stops}", "new 1"])
            assert missing == (["lost"] if stops == 1 else [])
            assert added == [f"new {stops}"]
            assert not database.needs_reconciling(ROOT)
            database.begin_commit()()
    with closing(opened(folder)) as database:
        database.begin_session(False)
        assert not database.needs_reconciling(ROOT)
        # It may turn up under another name, and must not be an older one then.
        assert database.generation(an_id(2)) == 7


def test_an_unclean_stop_is_counted_once_if_nothing_was_committed_after_it(folder):
    for _ in range(3):
        with closing(opened(folder)) as database:
            database.begin_session(True)
            assert database.unclean == 1


def test_a_folder_without_a_name_goes_with_all_below(folder, database):
    above, below = an_id(1), an_id(2)
    database.note_entry(ROOT, "above", above)
    database.note_entry(above, "below", below)
    database.note_folder(below)
    database.note_entry(below, "file", an_id(3))
    database.note_entry(below, "hard link", an_id(4))
    database.note_entry(ROOT, "hard link", an_id(4))
    for number in range(1, 5):
        database.note_generation(an_id(number), 5)
    database.begin_commit()()
    database.forget_entry(ROOT, "above")
    database.begin_commit()()
    assert rows(folder, "SELECT * FROM entries") == [(ROOT, b"hard link", an_id(4))]
    assert rows(folder, "SELECT * FROM objects") == [(an_id(4), 5, 1)]
    assert rows(folder, "SELECT * FROM folders") == []


def test_what_came_and_went_between_two_commits_leaves_nothing(folder, database):
    for number in range(3):
        database.note_entry(ROOT, "temporary", an_id(number))
        database.note_generation(an_id(number), 2)
    database.forget_entry(ROOT, "temporary")
    database.begin_commit()()
    assert rows(folder, "SELECT * FROM entries") == rows(folder, "SELECT * FROM objects") == []


def test_a_file_that_is_sealed_after_its_last_name_went_leaves_nothing(folder, database):
    database.note_entry(ROOT, "open", an_id(1))
    database.note_generation(an_id(1), 2)
    database.begin_commit()()
    database.forget_entry(ROOT, "open")
    database.begin_commit()()
    assert database.committed_generation(an_id(1)) == 0
    assert database.generation(an_id(1)) == 2
    database.note_generation(an_id(1), 3)
    database.begin_commit()()
    assert rows(folder, "SELECT * FROM objects") == []
    database.note_entry(ROOT, "linked again", an_id(1))
    database.begin_commit()()
    assert database.committed_generation(an_id(1)) == 3


@pytest.mark.parametrize("committed", [False, True])
def test_a_file_that_is_sealed_first_after_its_last_name_went_leaves_nothing(
    folder, database, committed
):
    database.note_entry(ROOT, "open", an_id(1))
    if committed:
        database.begin_commit()()
    database.forget_entry(ROOT, "open")
    database.begin_commit()()
    database.note_generation(an_id(1), 1)
    database.begin_commit()()
    assert rows(folder, "SELECT * FROM objects") == []


def test_a_folder_without_a_name_of_its_own_is_kept(database):
    database.note_generation(ROOT, 4)
    database.begin_commit()()
    database.note_entry(ROOT, "a", an_id(1))
    database.forget_entry(ROOT, "a")
    database.begin_commit()()
    assert database.committed_generation(ROOT) == 4


def test_a_generation_beyond_what_sql_holds_does_not_stop_commits(folder, database):
    database.note_entry(ROOT, "a", an_id(1))
    database.note_generation(an_id(1), (1 << 64) - 1)
    database.begin_commit()()
    assert database.committed_generation(an_id(1)) == GENERATION_MAX


def test_a_generation_never_goes_back(folder):
    with closing(opened(folder)) as database:
        for generation in (5, 3):
            database.note_entry(ROOT, "a", an_id(1))
            database.note_generation(an_id(1), generation)
            assert database.generation(an_id(1)) == 5
            database.begin_commit()()
            assert database.committed_generation(an_id(1)) == 5


def test_the_newest_word_counts_in_a_folder_that_is_loaded_later(folder, database):
    for text, one in (("both", 1), ("gone", 2), ("back", 3)):
        database.note_entry(ROOT, text, an_id(one))
    database.forget_entry(ROOT, "back")
    commit = database.begin_commit()
    database.note_entry(ROOT, "both", an_id(4))
    database.forget_entry(ROOT, "gone")
    database.note_entry(ROOT, "back", an_id(5))
    assert database.expected(ROOT) == {"both": an_id(4), "back": an_id(5)}
    commit()
    assert database.expected(ROOT) == {"both": an_id(4), "back": an_id(5)}


def test_what_an_abandoned_commit_held_goes_with_the_next(folder, database):
    """And what came and went between the two of them, too."""
    database.note_entry(ROOT, "replaced", an_id(1))
    database.note_entry(ROOT, "renamed", an_id(2))
    database.note_entry(ROOT, "renamed", an_id(3))
    for number in range(1, 4):
        database.note_generation(an_id(number), 7)
    database.note_folder(an_id(9))
    assert database.begin_commit(1).abandon()
    database.note_entry(ROOT, "replaced", an_id(4))
    database.note_entry(ROOT, "renamed", an_id(5))
    database.note_entry(ROOT, "renamed", an_id(6))
    for number in range(4, 7):
        database.note_generation(an_id(number), 2)
    database.note_generation(an_id(4), 1)
    database.begin_commit()()
    assert rows(folder, "SELECT * FROM objects") == [(an_id(4), 2, 1), (an_id(6), 2, 1)]
    assert rows(folder, "SELECT folder FROM folders") == [(an_id(9),)]
    assert rows(folder, "SELECT checkpoint FROM meta") == [(1,)]


def test_what_a_stop_took_is_remembered_through_an_abandoned_commit(folder, database):
    database.note_entry(ROOT, "a", an_id(1))
    database.note_generation(an_id(1), 7)
    database.begin_commit()()
    database.note_entry(ROOT, "b", an_id(2))
    database.begin_commit().abandon()
    database.reconcile(ROOT, ["b"])
    database.begin_commit()()
    assert database.committed_generation(an_id(1)) == 7


def test_policies_and_checkpoint_go_with_a_commit(folder):
    policies = [KnownPolicy(bytes([n] * 16), n, bytes([n] * 32), n + 5) for n in (2, 1)]
    with closing(opened(folder)) as database:
        database.note_policies(policies)
        assert database.policies() == tuple(sorted(policies))
        commit = database.begin_commit(17)
        assert database.policies() == tuple(sorted(policies))
        assert database.checkpoint == 17
        commit()
        database.note_policies(policies[:1])
        database.begin_commit()
    with closing(opened(folder)) as database:
        assert database.policies() == tuple(sorted(policies))
        assert database.checkpoint == 17


def test_folders_in_memory_are_bounded(database, monkeypatch):
    monkeypatch.setattr(contentdb, "ENTRIES_HELD", 100)
    for folder in range(50):
        for number in range(30):
            database.note_entry(an_id(folder), f"{number}", an_id(1000 + number))
    database.begin_commit()()
    for folder in range(50):
        assert len(database.expected(an_id(folder))) == 30
        assert sum(map(len, database._folders.values())) <= 120
        assert database._held == sum(map(len, database._folders.values()))
    # One that grows while it is in memory counts, too.
    for number in range(200):
        database.note_entry(an_id(49), f"more {number}", an_id(1))
        database.forget_entry(an_id(49), f"{number}")
    database.expected(an_id(0))
    assert database._held == sum(map(len, database._folders.values()))
    assert len(database._folders) == 4


def test_noting_goes_on_while_a_commit_runs(folder):
    """Each round's commit runs on another thread while the next round is noted."""
    rounds, many = 6, 2000
    with closing(opened(folder)) as database:
        thread = None
        for number in range(rounds):
            for at in range(many):
                one = an_id(at % 500)
                database.note_entry(ROOT, f"{number} {at}", one)
                database.note_generation(one, number + 1)
                if at % 200 == 0:
                    assert database.generation(one) == number + 1
                    assert database.expected(ROOT)[f"{number} {at}"] == one
                if number:
                    database.forget_entry(ROOT, f"{number - 1} {at}")
            if thread is not None:
                thread.join()
            thread = threading.Thread(target=database.begin_commit(number))
            thread.start()
        thread.join()
    with closing(opened(folder)) as database:
        last = rounds - 1
        assert database.expected(ROOT) == {f"{last} {at}": an_id(at % 500) for at in range(many)}
        assert database.checkpoint == last
        assert {database.generation(an_id(at)) for at in range(500)} == {rounds}


def test_a_second_commit_waits_its_turn(database, folder):
    database.note_entry(ROOT, "a", an_id(1))
    commit = database.begin_commit()
    with closing(sqlite3.connect(os.path.join(folder, FILE_NAME))) as other:
        other.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=commit)
        thread.start()
        while not database._writer.in_transaction and commit.stage.name != "RUNNING":
            assert thread.is_alive()
        with pytest.raises(RuntimeError, match="one commit at a time"):
            database.begin_commit()
        assert database.committed_generation(an_id(1)) == 0
        other.execute("ROLLBACK")
    thread.join()
    database.begin_commit()()
    with pytest.raises(StoreError, match="ran twice"):
        commit()


def a_symlink(place):
    os.rename(place, place + ".real")
    os.symlink(place + ".real", place)


def a_dangling_symlink(place):
    os.unlink(place)
    os.symlink(place + ".nowhere", place)


def a_symlink_for_its_log(place):
    os.symlink(place + ".elsewhere", place + "-wal")


def a_folder(place):
    os.unlink(place)
    os.mkdir(place)


@pytest.mark.parametrize("make", [a_symlink, a_dangling_symlink, a_symlink_for_its_log, a_folder])
def test_no_symlink_is_followed(folder, make):
    opened(folder).close()
    place = os.path.join(folder, FILE_NAME)
    make(place)
    with pytest.raises(StoreDamaged, match="no symbolic link is followed"):
        opened(folder)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_database_that_others_may_use_is_refused(folder, mode):
    opened(folder).close()
    os.chmod(os.path.join(folder, FILE_NAME), mode)
    with pytest.raises(NotPermitted, match="chmod 0600"):
        opened(folder)
