"""Generations of a folder's files: read one by one at first, then all at once."""

import os
import sqlite3
from contextlib import closing

import pytest

from fsdriver import contentdb
from fsdriver.contentdb import FILE_NAME, ContentDatabase
from fsdriver.errors import StoreDamaged

STORE = b"store id, 16 byt"
FOLDERS = (b"the one folder..", b"the other folder")
COUNT = 50


def an_id(folder: bytes, number: int) -> bytes:
    return folder[:8] + b"%08d" % number


@pytest.fixture
def path(tmp_path):
    tmp_path.chmod(0o700)
    path = os.path.join(tmp_path, FILE_NAME)
    with closing(ContentDatabase.open(path, STORE, complete_if_new=True)) as database:
        for folder in FOLDERS:
            for number in range(COUNT):
                database.note_entry(folder, f"name {number}", an_id(folder, number))
                database.note_generation(an_id(folder, number), number + 1)
        database.begin_commit()()
    return path


@pytest.fixture
def database(path):
    with closing(ContentDatabase.open(path, STORE, complete_if_new=True)) as database:
        yield database


def queries(database: ContentDatabase) -> list[str]:
    asked: list[str] = []
    database._reader.set_trace_callback(asked.append)
    return asked


def test_a_folder_costs_a_few_queries_however_many_files_are_read(database):
    asked = queries(database)
    for folder in FOLDERS:
        before = len(asked)
        for number in range(COUNT):
            assert an_id(folder, number) in database.expected(folder).values()
            assert database.generation(an_id(folder, number)) == number + 1
        assert len(asked) - before <= contentdb._MISSES + 3
    assert database.held["generations"] == 2 * COUNT


def test_who_reads_a_single_file_reads_no_folder(database):
    database.expected(FOLDERS[0])
    database.generation(an_id(FOLDERS[0], 7))
    assert database.held["generations"] == 1


def test_nor_of_a_folder_that_is_large(database, monkeypatch):
    monkeypatch.setattr(contentdb, "_FOLDER_AT_ONCE", COUNT - 1)
    database.expected(FOLDERS[0])
    for number in range(10):
        assert database.generation(an_id(FOLDERS[0], number)) == number + 1
    assert database.held["generations"] == 10


def test_what_is_noted_meanwhile_is_newer(database):
    database.note_generation(an_id(FOLDERS[0], 40), 100)
    database.expected(FOLDERS[0])
    for number in range(COUNT):
        database.generation(an_id(FOLDERS[0], number))
    assert database.generation(an_id(FOLDERS[0], 40)) == 100
    assert database.committed_generation(an_id(FOLDERS[0], 40)) == 41
    database.begin_commit()()
    assert database.committed_generation(an_id(FOLDERS[0], 40)) == 100


def test_a_row_that_no_ckfs_writes_is_damage_whoever_asks(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(
            "UPDATE objects SET generation = -1 WHERE object = ?", (an_id(FOLDERS[0], 30),)
        )
    with closing(ContentDatabase.open(path, STORE, complete_if_new=True)) as database:
        database.expected(FOLDERS[0])
        for number in range(contentdb._MISSES - 1):
            assert database.generation(an_id(FOLDERS[0], number)) == number + 1
        with pytest.raises(StoreDamaged):
            database.generation(an_id(FOLDERS[0], COUNT - 1))
