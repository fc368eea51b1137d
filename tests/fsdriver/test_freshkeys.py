"""File keys made ahead of time: used once, of the right site and generation, while it is leased."""

import pytest

from fsdriver.format import filekeys
from fsdriver.format.header import ClearHeader
from fsdriver.freshkeys import KEPT, FreshKeys
from keyhierarchy.errors import RootKeyUnavailable
from keyhierarchy.lease import SiteLease
from keyhierarchy.wrapping import FileKeyWrapper

SIZE = 4096


def lease_on(site: bytes, *generations: int) -> SiteLease:
    lease = SiteLease(site, policy_id="p", root_directory_id=bytes(16))
    wrappers = {
        one: FileKeyWrapper(bytes([one]) * 32, site_id=site, generation=one) for one in generations
    }
    lease.fill(wrappers, b"m" * 32, generation=max(generations), deadline=float("inf"))
    return lease


def require_usable(fresh, lease, generation):
    """What a reader of its header would do."""
    clear = ClearHeader.parse(fresh.clear)
    assert (clear.site_id, clear.site_key_generation) == (lease.site_id, generation)
    assert (clear.file_id, clear.chunk_size) == (fresh.file_id, SIZE)
    key = lease.unwrap_file_key(clear.file_id, generation, clear.wrapped_file_key)
    assert filekeys.derive(key, clear.file_id) == fresh.keys
    assert clear.key_commitment == fresh.keys.commitment


def test_each_is_used_once_whether_prepared_or_not():
    lease, fresh = lease_on(b"s" * 16, 1), FreshKeys()
    assert not fresh.prepare()
    taken = [fresh.take(lease, SIZE)]
    for _ in range(2 * KEPT):  # a key is drawn in one step, and set up in the next
        assert fresh.prepare()
    assert not fresh.prepare()
    taken += [fresh.take(lease, SIZE) for _ in range(2 * KEPT)]
    assert len({one.file_id for one in taken}) == len({one.keys for one in taken}) == 2 * KEPT + 1
    for one in taken:
        require_usable(one, lease, 1)


def test_a_new_generation_of_the_site_key_counts_at_once():
    lease, fresh = lease_on(b"s" * 16, 1), FreshKeys()
    fresh.take(lease, SIZE)
    assert fresh.prepare()
    assert fresh.prepare()
    renewed = lease_on(b"s" * 16, 1, 2)
    lease.fill(renewed._wrappers, b"m" * 32, generation=2, deadline=float("inf"))
    require_usable(fresh.take(lease, SIZE), lease, 2)


def test_another_site_or_chunk_size_gets_its_own():
    one, other, fresh = lease_on(b"s" * 16, 1), lease_on(b"t" * 16, 1), FreshKeys()
    fresh.take(one, SIZE)
    assert fresh.prepare()
    require_usable(fresh.take(other, SIZE), other, 1)
    assert fresh.prepare()
    assert ClearHeader.parse(fresh.take(other, 2 * SIZE).clear).chunk_size == 2 * SIZE


def test_none_outlasts_the_lease():
    lease, fresh = lease_on(b"s" * 16, 1), FreshKeys()
    fresh.take(lease, SIZE)
    assert fresh.prepare()
    lease.end(RootKeyUnavailable("revoked", site_id="73"))
    assert not fresh.prepare()
    with pytest.raises(RootKeyUnavailable, match="revoked"):
        fresh.take(lease, SIZE)
    fresh.drop(b"t" * 16)
    assert fresh._ready
    fresh.drop(lease.site_id)
    assert not fresh._ready
    assert not fresh.prepare()
