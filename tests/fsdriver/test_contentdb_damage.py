"""A content database that is damaged, somebody else's or too new, and a disk that is full."""

import os
import random
import resource
import shutil
import sqlite3
from contextlib import closing, contextmanager

import pytest

from fsdriver.contentdb import FILE_NAME, ContentDatabase
from fsdriver.errors import StoreDamaged, StoreError

STORE = b"store id, 16 byt"
FOLDERS = [b"folder%10d" % number for number in range(4)]
PAGE = 4096


def an_id(number: int) -> bytes:
    return b"object%10d" % number


def opened(place) -> ContentDatabase:
    return ContentDatabase.open(os.fspath(place), STORE, complete_if_new=True)


def everything(database) -> tuple:
    return (
        [database.expected(folder) for folder in FOLDERS],
        [database.committed_generation(an_id(number)) for number in range(0, 1200, 7)],
        [database.needs_reconciling(folder) for folder in FOLDERS],
        database.policies(),
        database.complete,
        database.checkpoint,
    )


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """About sixty pages, and what they say."""
    folder = tmp_path_factory.mktemp("filled")
    with closing(opened(folder / FILE_NAME)) as database:
        for number in range(1200):
            database.note_entry(FOLDERS[number % 4], f"name {number:060}", an_id(number))
            database.note_generation(an_id(number), number + 1)
        for folder_id in FOLDERS:
            database.note_folder(folder_id)
        database.begin_commit(3)()
        database._writer.execute("UPDATE meta SET unclean = 1")
    with closing(opened(folder / FILE_NAME)) as database:
        return (folder / FILE_NAME).read_bytes(), everything(database)


@pytest.fixture
def place(tmp_path):
    tmp_path.chmod(0o700)
    return tmp_path / FILE_NAME


def write(place, content: bytes) -> None:
    for ending in ("-wal", "-shm"):
        place.with_name(FILE_NAME + ending).unlink(missing_ok=True)
    place.write_bytes(content)
    place.chmod(0o600)


def read(place, *, unclean: bool) -> tuple | None:
    """None when it was refused in the way in which it has to be."""
    try:
        with closing(opened(place)) as database:
            database.begin_session(unclean)
            database.unclean = 1
            return everything(database)
    except StoreDamaged as error:
        assert str(place) in str(error)
        assert "`ckfs contentdb rebuild`" in str(error)
        return None


@pytest.mark.parametrize("unclean", [False, True])
@pytest.mark.parametrize("damage", ["noise", "zeros", "another page"])
def test_a_page_that_is_not_what_was_written(place, filled, damage, unclean):
    content, truth = filled
    generator = random.Random(damage)
    refused = 0
    for at in range(0, len(content), PAGE):
        page = {
            "noise": generator.randbytes(PAGE),
            "zeros": bytes(PAGE),
            "another page": content[:PAGE],
        }[damage]
        write(place, content[:at] + page + content[at + PAGE :])
        found = read(place, unclean=unclean)
        refused += found is None
        assert found in (None, truth)
    assert refused >= (len(content) // PAGE - 1) * 0.9


def test_a_database_that_was_cut(place, filled):
    content, truth = filled
    for length in [100, *range(PAGE, len(content), PAGE)]:
        write(place, content[:length])
        assert read(place, unclean=True) is None
    write(place, content)
    assert read(place, unclean=True) == truth


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 8192, b"no database" * 1000, b"SQLite format 3\0"]
)
def test_what_is_no_database(place, content):
    write(place, content)
    assert read(place, unclean=False) is None
    assert place.read_bytes() == content


def altered(place, filled, *statements: str) -> None:
    write(place, filled[0])
    with closing(sqlite3.connect(place, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["PRAGMA application_id = 7"], "not made by ckfs"),
        (["UPDATE meta SET store_id = x'00112233445566778899aabbccddeeff'"], "is about store 0011"),
        (["UPDATE meta SET store_id = x'00'"], "first table"),
        (["UPDATE meta SET complete = 2"], "first table"),
        (["UPDATE meta SET unclean = -1"], "first table"),
        (["UPDATE meta SET checkpoint = -1"], "first table"),
        (["DELETE FROM meta"], "which format"),
        (["INSERT INTO meta SELECT * FROM meta"], "which format"),
        (["DROP TABLE meta"], "no such table"),
        (["UPDATE meta SET format = 0"], "tables are not those"),
        (["DROP TABLE folders"], "tables are not those"),
        (["ALTER TABLE entries ADD COLUMN more ANY"], "tables are not those"),
        (["CREATE VIEW more AS SELECT * FROM meta"], "tables are not those"),
        (
            ["CREATE TRIGGER more AFTER INSERT ON entries BEGIN DELETE FROM entries; END"],
            "tables are not those",
        ),
        (["UPDATE meta SET format = 2"], "format 2, this ckfs knows 1: use the newer ckfs"),
        (["UPDATE meta SET format = 2", "ALTER TABLE meta ADD COLUMN more ANY"], "the newer ckfs"),
    ],
)
def test_a_form_that_this_version_does_not_write(place, filled, statements, words):
    altered(place, filled, *statements)
    with pytest.raises(StoreDamaged, match=words) as caught:
        opened(place)
    assert "`ckfs contentdb rebuild`" in str(caught.value)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET object = x'00' WHERE text LIKE '%7'",
        "UPDATE entries SET object = zeroblob(17) WHERE text LIKE '%7'",
        "UPDATE objects SET generation = -1 WHERE object LIKE '%7'",
        "UPDATE policies SET fingerprint = x'00'",
    ],
)
def test_a_row_that_no_ckfs_writes(place, filled, statement):
    altered(
        place,
        filled,
        "INSERT INTO policies VALUES (zeroblob(16), 1, zeroblob(32), 1)",
        statement.replace("LIKE '%7'", "IS NOT NULL"),
    )
    assert read(place, unclean=False) is None


# A full disk


@contextmanager
def files_of_at_most(size: int):
    """The kernel refuses every write behind it, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def note_some(database) -> dict:
    texts = {f"name {number:050}": an_id(number) for number in range(300)}
    for text, object_id in texts.items():
        database.note_entry(FOLDERS[0], text, object_id)
        database.note_generation(object_id, 3)
    return texts


def test_a_disk_that_is_full_at_any_point_of_a_commit(place, filled):
    write(place, filled[0])
    sizes = 0
    with closing(opened(place)) as database:
        before = everything(database)
        texts = note_some(database)
        after = {**before[0][0], **texts}
        for size in range(0, 1 << 20, 5000):
            with files_of_at_most(size):
                try:
                    database.begin_commit()()
                except StoreError as error:
                    assert not isinstance(error, StoreDamaged)
                    assert "make room" in str(error)
                    sizes += 1
                else:
                    break
            assert database.expected(FOLDERS[0]) == after
            assert database.generation(an_id(0)) == 3
            with closing(sqlite3.connect(place)) as other:
                found = other.execute("SELECT count(*) FROM entries").fetchone()
            assert found == (1200,), "half a commit"
    assert sizes > 5
    with closing(opened(place)) as database:
        assert database.expected(FOLDERS[0]) == after
        database.begin_session(True)


def test_a_database_that_may_not_grow(place):
    with closing(opened(place)) as database:
        (pages,) = database._writer.execute("PRAGMA page_count").fetchone()
        database._writer.execute(f"PRAGMA max_page_count = {pages}")
        texts = note_some(database)
        with pytest.raises(StoreError, match=r"full.*make room"):
            database.begin_commit()()
        database._writer.execute("PRAGMA max_page_count = 100000")
        database.forget_entry(FOLDERS[0], texts.popitem()[0])
        database.begin_commit()()
    with closing(opened(place)) as database:
        assert database.expected(FOLDERS[0]) == texts


def test_a_disk_that_is_full_when_the_database_is_made(place):
    for size in (0, 1, 5000):
        with files_of_at_most(size), pytest.raises(StoreError, match="make room"):
            opened(place)
        assert os.listdir(place.parent) == []
    opened(place).close()


def test_what_an_interrupted_making_left_behind(place):
    place.with_name(FILE_NAME + ".new").write_bytes(b"half of one")
    opened(place).close()
    assert FILE_NAME + ".new" not in os.listdir(place.parent)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(StoreError):
        opened(tmp_path / "nowhere" / FILE_NAME)


def test_an_old_log_is_not_replayed_into_a_new_database(place, filled):
    """A database put in place of one whose driver was killed."""
    from fsdriver import contentdb_file  # noqa: PLC0415

    database = opened(place)
    note_some(database)
    database.begin_commit()()
    killed = place.with_name("killed")
    killed.mkdir(mode=0o700)
    for name in (FILE_NAME, FILE_NAME + "-wal"):
        shutil.copy(place.with_name(name), killed / name)
    database.close()
    assert os.path.getsize(killed / (FILE_NAME + "-wal"))
    contentdb_file.replace(
        os.fspath(killed / FILE_NAME), contentdb_file.Meta(STORE, complete=True), ()
    )
    with closing(opened(killed / FILE_NAME)) as database:
        assert database.expected(FOLDERS[0]) == {}
        database.begin_session(True)
