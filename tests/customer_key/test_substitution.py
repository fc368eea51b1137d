"""What the owner of a store can plant, with real vaults: another TIK, another vault."""

from __future__ import annotations

import os
import secrets

import pytest
from msgspec.structs import replace

from keyhierarchy import administration, wrapping
from keyhierarchy import keystore as keystores
from keyhierarchy.customerkeys import VaultRoots
from keyhierarchy.errors import AnchorMismatch, RootKeyNotListed
from tests.keyhierarchy import customer

pytestmark = pytest.mark.vault


def section_of(store):
    (section,) = keystores.load(store.control, store.store_id).sections
    return section


def test_a_substituted_tik_under_the_true_keys_is_refused(store, server, lease):
    # RSA-OAEP wraps need only the public key: the wraps are genuine, and open in both vaults.
    theirs = os.urandom(32)
    section = section_of(store)
    policy = section.policy
    vaults = VaultRoots(store.state)
    wraps = tuple(
        customer.wrap_of(wrap.slot, vaults.root(wrap.key_id), theirs)
        for wrap in policy.current_tik.wraps
    )
    assert all(vaults.root(wrap.key_id).unwrap(wrap.wrapped) == theirs for wrap in wraps)
    generation = replace(
        policy.current_tik,
        wraps=wraps,
        fingerprint=wrapping.tik_fingerprint(
            theirs, policy_id=bytes.fromhex(policy.id), generation=1
        ),
    )
    site = customer.new_site(
        theirs,
        policy_id=policy.id,
        tik_generation=1,
        root_directory_id=os.urandom(16),
        workload="onedrive",
    )
    forged = replace(section, policy=replace(policy, tik_generations=(generation,)), sites=(site,))
    customer.write_section(store, forged, theirs)
    asked = len(server.audit("kv1")) + len(server.audit("kv2"))
    with pytest.raises(AnchorMismatch, match="substituted"):
        store.open().lease(bytes.fromhex(site.site_id))
    assert len(server.audit("kv1")) + len(server.audit("kv2")) == asked
    assert store.events()[-1] == "site-key.open refused"


def test_a_substituted_vault_url_is_refused_before_it_is_asked(store, server, hierarchy, lease):
    # A vault of theirs under the same authority would get a token that opens the true vault, too.
    theirs = server.key_client("hsm1").create_rsa_key(f"k-{secrets.token_hex(6)}")
    section = section_of(store)
    policy = section.policy
    first, second = policy.current_tik.wraps
    planted = replace(
        policy.current_tik, wraps=(first, replace(second, key_id=theirs.id, wrapped=b"\0" * 256))
    )
    tik = VaultRoots(store.state).root(first.key_id).unwrap(first.wrapped)
    customer.write_section(
        store, replace(section, policy=replace(policy, tik_generations=(planted,))), tik
    )
    asked = {vault: len(server.audit(vault)) for vault in ("kv1", "kv2", "hsm1")}
    with pytest.raises(RootKeyNotListed, match=r"the vault hsm1.managedhsm.test") as caught:
        store.open().lease(store.site_id)
    assert "ckfs-keys vault allow" in str(caught.value)
    assert [type(one) for one in hierarchy.probe()] == [RootKeyNotListed]
    assert not lease.valid
    assert asked == {vault: len(server.audit(vault)) for vault in asked}


def test_a_key_of_a_listed_vault_that_is_not_listed_itself(store, server):
    section = section_of(store)
    policy = section.policy
    first, second = policy.current_tik.wraps
    other = server.key_client("kv1").create_rsa_key(f"k-{secrets.token_hex(6)}")
    tik = VaultRoots(store.state).root(first.key_id).unwrap(first.wrapped)
    rolled = customer.wrap_of("primary", VaultRoots(store.state).root(other.id), tik)
    generation = replace(policy.current_tik, wraps=(rolled, second))
    customer.write_section(
        store, replace(section, policy=replace(policy, tik_generations=(generation,))), tik
    )
    with pytest.raises(RootKeyNotListed, match="has not allowed this key"):
        store.open().lease(store.site_id)
    administration.allow(store.state, other.id, policy_id=policy.id, slot="primary")
    assert store.open().lease(store.site_id).valid
