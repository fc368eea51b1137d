"""The host's record of sessions: what it says when, and every record that is refused."""

import json
import os
import stat

import pytest

from fsdriver.errors import CkfsError, StoreDamaged
from fsdriver.sessionbook import SessionBook
from keyhierarchy.errors import KeyHierarchyError

OTHER = "0123456789abcdef" * 2


@pytest.fixture
def place(tmp_path):
    return tmp_path / "sessions.json"


@pytest.fixture
def book(tmp_path):
    return SessionBook(str(tmp_path))


def begin(book, **options):
    return book.begin(**({"read_only": False, "accepts_all": False} | options))


def said(place) -> dict:
    return json.loads(place.read_text())


def test_a_session_is_on_record_while_it_runs(book, place):
    session = begin(book)
    assert session.unended == frozenset()
    assert said(place) == {"format": 1, "running": session.id.hex(), "unended": []}
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    book.end(session)
    assert said(place) == {"format": 1, "running": "", "unended": []}


def test_a_session_that_was_killed_is_known_as_unended_for_good(book, place):
    killed = [begin(book).id for _ in range(3)]
    for _ in range(2):
        session = begin(book)
        assert session.unended == frozenset(killed)
        assert said(place)["running"] == session.id.hex()
        assert said(place)["unended"] == sorted(one.hex() for one in killed)
        book.end(session)
    assert said(place) == {
        "format": 1,
        "running": "",
        "unended": sorted(one.hex() for one in killed),
    }


def test_a_session_that_could_not_seal_a_file_never_ended(book):
    session = begin(book)
    session.unsealed.add(b"f" * 16)
    book.end(session)
    assert begin(book).unended == {session.id}


def test_a_read_only_session_knows_the_others_and_records_nothing(book, place):
    assert begin(book, read_only=True).unended == frozenset()
    assert not place.exists()
    killed = begin(book)
    before = place.read_bytes()
    session = begin(book, read_only=True)
    assert session.unended == {killed.id}
    assert place.read_bytes() == before


def test_an_administrator_may_accept_all(book):
    assert not begin(book).accepts_all
    assert begin(book, accepts_all=True).accepts_all


def test_a_session_does_not_begin_if_it_cannot_be_recorded(tmp_path):
    with pytest.raises(KeyHierarchyError):
        begin(SessionBook(str(tmp_path / "is not there")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        "null",
        '{"format": 2}',
        '{"format": "1"}',
        '{"format": 1, "more": 1}',
        '{"running": 1}',
        '{"running": "no hexadecimal digits, nothing"}',
        f'{{"running": "{OTHER[:-1]}"}}',
        f'{{"running": "{OTHER[:-2]}"}}',
        f'{{"running": "{OTHER}00"}}',
        f'{{"unended": "{OTHER}"}}',
        f'{{"unended": ["{OTHER}", "ab"]}}',
        f'{{"unended": ["{OTHER}", null]}}',
        f'{{"unended": ["{OTHER}"]',
    ],
)
def test_a_record_that_no_driver_writes_stops_the_mount(book, place, text):
    place.write_text(text)
    place.chmod(0o600)
    for read_only in (False, True):
        with pytest.raises(StoreDamaged, match="move it away, and mount with -o recover"):
            begin(book, read_only=read_only)
    assert place.read_text() == text


def test_a_record_of_the_fewest_members_is_accepted(book, place):
    place.write_text(f'{{"unended": ["{OTHER}"]}}')
    place.chmod(0o600)
    assert begin(book).unended == {bytes.fromhex(OTHER)}


def writable_by_others(place):
    place.write_text("{}")
    place.chmod(0o666)


def too_long(place):
    place.write_text("{}" + " " * (1 << 20))
    place.chmod(0o600)


def a_symlink(place):
    target = place.with_name("elsewhere")
    target.write_text("{}")
    target.chmod(0o600)
    place.symlink_to(target)


def a_dangling_symlink(place):
    place.symlink_to(place.with_name("nowhere"))


def a_folder(place):
    place.mkdir(mode=0o700)


def a_pipe(place):
    os.mkfifo(place, 0o600)


@pytest.mark.parametrize(
    "make", [writable_by_others, too_long, a_symlink, a_dangling_symlink, a_folder, a_pipe]
)
def test_what_is_no_private_document_stops_the_mount(book, place, make):
    make(place)
    with pytest.raises((KeyHierarchyError, CkfsError)):
        begin(book)
