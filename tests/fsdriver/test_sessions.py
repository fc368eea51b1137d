"""Whose unsealed headers are recovered, and whose are refused (FORMAT.md 3.5 and 12.3)."""

import os
from types import SimpleNamespace

import pytest

from fsdriver.buffers import Buffers
from fsdriver.errors import HeaderInvalid, SizeMismatch
from fsdriver.openfile import OpenFile
from fsdriver.recovery import recover
from fsdriver.sessions import Session
from tests.fsdriver.bench import SIZE, STRIDE

CONTENT = b"first".ljust(SIZE, b"1") + b"second".ljust(SIZE, b"2")
FILE = b"f" * 16
OTHER = frozenset({b"o" * 16})


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
    """A new chunk in its place, which no header names yet."""
    content.write(2 * SIZE, b"F" * 100)


def left_shorter(content: OpenFile) -> None:
    """As a power cut tears the one call that writes header and records."""
    os.ftruncate(content.file.descriptor, 512 + STRIDE)


def left_longer(content: OpenFile) -> None:
    os.ftruncate(content.file.descriptor, 512 + 3 * STRIDE)


LEFT = {left_dirty: HeaderInvalid, left_shorter: SizeMismatch, left_longer: SizeMismatch}
KEPT = {
    left_dirty: CONTENT + b"F" * 100,
    left_shorter: CONTENT[:SIZE],
    left_longer: CONTENT,
}


@pytest.fixture(params=LEFT, ids=lambda leave: leave.__name__)
def left(request, bench):
    """A store whose file has a header that does not say what is there, and the refusal for it."""
    content = bench.mount.create()
    content.write(0, CONTENT)
    request.param(content)
    return SimpleNamespace(
        bench=bench,
        store=bench.mount.store,
        by=bench.mount.session,
        file_id=content.file.file_id,
        error=LEFT[request.param],
        kept=KEPT[request.param],
    )


def raw(left) -> bytes:
    return (left.store / "file").read_bytes()


def test_every_seal_has_the_session_that_made_it(left):
    session = Session(frozenset({left.by.id}))
    mount = left.bench.on(left.store, session)
    found = mount.sealed()
    assert found.state.session == left.by.id
    recover(found)
    mount.settle()
    assert mount.sealed(session=Session()).state.session == session.id


def test_what_a_session_that_ended_left_is_refused(left):
    before = raw(left)
    for session in (Session(), left.by, *([] if left.kept == CONTENT else [Session(OTHER)])):
        with pytest.raises(left.error):
            left.bench.mount.sealed(session=session)
    assert raw(left) == before


def test_what_is_too_long_is_cut_where_any_stop_may_have_left_it(bench):
    """Nobody was told that it is there; whose stop it was, nothing says."""
    content = bench.mount.create()
    content.write(0, CONTENT)
    whole = (bench.mount.store / "file").read_bytes()
    left_longer(content)
    assert bench.mount.sealed(session=Session(OTHER), writable=False).state.size == len(CONTENT)
    assert (bench.mount.store / "file").stat().st_size == 512 + 3 * STRIDE
    assert bench.mount.sealed(session=Session(OTHER)).state.size == len(CONTENT)
    assert (bench.mount.store / "file").read_bytes() == whole


@pytest.mark.parametrize("why", ["unended", "vouched for", "not sealed"])
def test_what_a_known_stop_left_is_recovered_once(left, why):
    if why == "not sealed":
        left.by.unsealed.add(left.file_id)
        mount = left.bench.mount
    else:
        unended = frozenset({left.by.id}) if why == "unended" else frozenset()
        session = Session(unended, accepts_all=why == "vouched for")
        mount = left.bench.on(left.store, session)
    found = mount.sealed()
    assert found.provisional
    outcome = recover(found)
    assert outcome.changed
    assert not found.provisional
    assert not found.state.dirty
    mount.settle()
    again = mount.sealed(session=Session())
    assert not again.provisional
    assert not again.state.dirty
    content = OpenFile(again, Buffers())
    assert content.size == outcome.size == len(left.kept)
    assert bytes(content.read(0, SIZE * 4)) == left.kept


def test_recovering_without_the_right_to_write_changes_nothing(left):
    before = raw(left)
    session = Session(frozenset({left.by.id}))
    found = left.bench.mount.sealed(session=session, writable=False)
    recover(found)
    assert bytes(OpenFile(found, Buffers()).read(0, SIZE * 4)) == left.kept
    assert raw(left) == before
    with pytest.raises(left.error):
        left.bench.mount.sealed(session=Session())
