"""Whose unsealed headers are recovered, and whose are refused (FORMAT.md 3.4 and 3.5)."""

import os

import pytest

from fsdriver.backing import Backing
from fsdriver.buffers import Buffers
from fsdriver.errors import HeaderInvalid, SizeMismatch
from fsdriver.openfile import OpenFile
from fsdriver.sealedfile import SealedFile
from fsdriver.sessions import Session
from tests.fsdriver.test_sealedfile import Lease

SIZE = 4096
CONTENT = b"first".ljust(SIZE, b"1") + b"second".ljust(SIZE, b"2")
FILE = b"f" * 16


def test_two_sessions_are_never_the_same():
    ids = {Session().id for _ in range(100)}
    assert len(ids) == 100
    assert {len(one) for one in ids} == {16}


def test_only_an_unended_session_may_have_left_a_file_behind():
    session = Session(frozenset({b"u" * 16}))
    assert session.may_recover(b"u" * 16, FILE)
    assert not session.may_recover(b"e" * 16, FILE)
    assert not session.may_recover(bytes(16), FILE)


def test_the_running_session_has_left_only_what_it_could_not_seal():
    for accepts_all in (False, True):
        session = Session(accepts_all=accepts_all)
        assert not session.may_recover(session.id, FILE)
        session.unsealed.add(FILE)
        assert session.may_recover(session.id, FILE)
        assert not session.may_recover(session.id, b"g" * 16)


def test_an_administrator_may_vouch_for_every_other_session():
    session = Session(accepts_all=True)
    assert session.may_recover(b"e" * 16, FILE)
    assert session.may_recover(bytes(16), FILE)


def left_dirty(content: OpenFile) -> None:
    content.write(0, b"F")


def left_shorter(content: OpenFile) -> None:
    """As a power cut tears the one call that writes header and records."""
    os.ftruncate(content.file.descriptor, 512 + SIZE + 40)


def left_longer(content: OpenFile) -> None:
    os.ftruncate(content.file.descriptor, 512 + 3 * (SIZE + 40))


LEFT = {left_dirty: HeaderInvalid, left_shorter: SizeMismatch, left_longer: SizeMismatch}


@pytest.fixture(params=LEFT, ids=lambda leave: leave.__name__)
def left(request, tmp_path):
    """A file whose header does not say what is there, and the refusal for it."""
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    file = SealedFile.create(Backing(), descriptor, Lease(), Session(), SIZE, (b"b" * 16,))
    content = OpenFile(file, Buffers(), vetted=True)
    content.write(0, CONTENT)
    request.param(content)
    yield file, LEFT[request.param]
    os.close(descriptor)


def opened(file: SealedFile, session: Session, *, writable: bool = True) -> SealedFile:
    return SealedFile.open(file.backing, file.descriptor, file.lease, session, writable=writable)


def test_every_seal_has_the_session_that_made_it(left):
    file, _error = left
    session = Session(frozenset({file.session.id}))
    found = opened(file, session)
    assert found.state.session == file.session.id
    found.recover()
    assert opened(file, Session()).state.session == session.id


def test_what_a_session_that_ended_left_is_refused(left):
    file, error = left
    before = os.pread(file.descriptor, 1 << 20, 0)
    for session in (Session(), Session(frozenset({b"o" * 16})), file.session):
        with pytest.raises(error):
            opened(file, session)
    assert os.pread(file.descriptor, 1 << 20, 0) == before


@pytest.mark.parametrize("why", ["unended", "vouched for", "not sealed"])
def test_what_a_known_stop_left_is_recovered_once(left, why):
    file, _error = left
    if why == "unended":
        session = Session(frozenset({file.session.id}))
    elif why == "vouched for":
        session = Session(accepts_all=True)
    else:
        session = file.session
        session.unsealed.add(file.file_id)
    found = opened(file, session)
    assert found.state.dirty
    size = found.recover()
    assert not found.state.dirty
    again = OpenFile(opened(file, Session()), Buffers())
    assert not again.file.state.dirty
    assert again.size == size > 0
    assert bytes(again.read(1, SIZE - 1)) == CONTENT[1:SIZE]


def test_recovering_without_the_right_to_write_changes_nothing(left):
    file, error = left
    before = os.pread(file.descriptor, 1 << 20, 0)
    session = Session(frozenset({file.session.id}))
    found = opened(file, session, writable=False)
    found.recover()
    assert bytes(OpenFile(found, Buffers()).read(1, SIZE - 1)) == CONTENT[1:SIZE]
    assert os.pread(file.descriptor, 1 << 20, 0) == before
    with pytest.raises(error):
        opened(file, Session())
