"""The host's own switch: set, cleared, watched cheaply, never read wrongly."""

from __future__ import annotations

import os

import pytest

from keyhierarchy import revocation
from keyhierarchy.errors import KeystoreInvalid, RootKeyRefused

POLICY, OTHER = "ab" * 16, "cd" * 16


@pytest.fixture
def state(tmp_path):
    return str(tmp_path / "state")


def test_set_and_clear(state):
    assert not revocation.is_revoked(state, POLICY)
    first = revocation.set(state, POLICY, "ticket 4711")
    assert revocation.set(state, POLICY, "again") == first
    assert revocation.is_revoked(state, POLICY)
    assert not revocation.is_revoked(state, OTHER)
    assert os.stat(revocation.path(state)).st_mode & 0o777 == 0o600
    error = revocation.refusal(first)
    assert isinstance(error, RootKeyRefused)
    assert error.cause == "revoked-on-host"
    assert "ticket 4711" in str(error)
    assert revocation.clear(state, POLICY)
    assert not revocation.clear(state, POLICY)
    assert not revocation.is_revoked(state, POLICY)


def test_the_watch_sees_every_change_and_reads_only_then(state, monkeypatch):
    watch = revocation.Watch(state)
    assert watch.now().policies == ()
    for change in (
        lambda: revocation.set(state, POLICY, "a"),
        lambda: revocation.set(state, OTHER, "b"),
        lambda: revocation.clear(state, POLICY),
        lambda: os.unlink(revocation.path(state)),
    ):
        change()
        assert watch.now() == revocation.load(state)
        seen = watch.now()
        with monkeypatch.context() as patch:
            patch.setattr(revocation, "load", None)
            assert watch.now() is seen


def test_a_damaged_document_is_told_each_time(state):
    revocation.set(state, POLICY, "a")
    with open(revocation.path(state), "w") as file:
        file.write("{")
    watch = revocation.Watch(state)
    for _ in range(2):
        with pytest.raises(KeystoreInvalid, match=r"revoked.json"):
            watch.now()
