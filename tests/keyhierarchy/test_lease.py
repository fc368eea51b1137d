"""The lease as the data path sees it."""

from __future__ import annotations

import copy
import os
import pickle

import pytest

from keyhierarchy.errors import RootKeyRefused, RootKeyUnavailable, WrappedKeyInvalid
from keyhierarchy.lease import SiteLease
from keyhierarchy.wrapping import FileKeyWrapper

SITE = b"s" * 16
FILE, KEY = b"f" * 16, bytes(range(32))


@pytest.fixture
def lease() -> SiteLease:
    made = SiteLease(SITE, policy_id="ab" * 16, root_directory_id=bytes(16))
    wrappers = {n: FileKeyWrapper(bytes([n]) * 32, site_id=SITE, generation=n) for n in (1, 2)}
    made.fill(wrappers, b"m" * 32, generation=2, deadline=5.0)
    return made


def test_it_wraps_under_the_current_generation_and_opens_all(lease):
    wrapped = lease.wrap_file_key(FILE, KEY)
    assert len(wrapped) == 48
    assert lease.unwrap_file_key(FILE, 2, wrapped) == KEY
    older = lease.wrap_file_key(FILE, KEY, 1)
    assert older != wrapped
    assert lease.unwrap_file_key(FILE, 1, older) == KEY
    with pytest.raises(WrappedKeyInvalid):
        lease.unwrap_file_key(FILE, 2, older)
    with pytest.raises(WrappedKeyInvalid):
        lease.unwrap_file_key(b"g" * 16, 2, wrapped)


@pytest.mark.parametrize("generation", [0, 3, 2**32])
def test_a_generation_it_does_not_have_is_told(lease, generation):
    with pytest.raises(WrappedKeyInvalid, match=f"generation {generation}.*newest keystore"):
        lease.unwrap_file_key(FILE, generation, bytes(48))
    with pytest.raises(WrappedKeyInvalid):
        lease.wrap_file_key(FILE, KEY, generation)


def test_an_ended_lease_has_no_keys_and_says_why(lease):
    wrapped = lease.wrap_file_key(FILE, KEY)
    lease.require_valid()
    lease.end(RootKeyRefused("the administrator said no", key_id="k"))
    assert not lease.valid
    for use in (
        lambda: lease.wrap_file_key(FILE, KEY),
        lambda: lease.unwrap_file_key(FILE, 2, wrapped),
        lambda: lease.metadata_key,
        lease.require_valid,
    ):
        with pytest.raises(RootKeyRefused, match="administrator said no") as caught:
            use()
        assert caught.value.key_id == "k"


def test_the_reason_kept_holds_no_frames(lease):
    secret = os.urandom(32)  # a local of a frame that a traceback would keep
    with pytest.raises(RootKeyRefused) as caught:
        raise RootKeyRefused("no") from ValueError(secret)
    lease.end(caught.value)
    kept = lease._reason
    assert kept.__traceback__ is kept.__cause__ is kept.__context__ is None


def test_it_can_become_valid_again(lease):
    lease.end(RootKeyUnavailable("down"))
    lease.fill(
        {3: FileKeyWrapper(KEY, site_id=SITE, generation=3)}, b"n" * 32, generation=3, deadline=9.0
    )
    assert lease.valid
    assert (lease.generation, lease.deadline, lease.metadata_key) == (3, 9.0, b"n" * 32)
    assert lease.unwrap_file_key(FILE, 3, lease.wrap_file_key(FILE, KEY)) == KEY


def test_a_lease_that_was_never_filled_has_nothing_to_give():
    empty = SiteLease(SITE, policy_id="ab" * 16, root_directory_id=bytes(16))
    assert not empty.valid
    with pytest.raises(RootKeyUnavailable, match="holds no keys"):
        empty.wrap_file_key(FILE, KEY)


def test_it_shows_no_key_and_is_neither_pickled_nor_copied(lease):
    shown = repr(lease) + str(lease)
    assert "valid" in shown
    assert SITE.hex() in shown
    assert (b"m" * 32).hex() not in shown
    assert "mmmm" not in shown
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            take(lease)
    assert not hasattr(lease, "__dict__")
