"""Opening a policy: every way to plant another key is refused before a key is used."""

from __future__ import annotations

import os

import pytest
from msgspec.structs import replace

from keyhierarchy import anchor as anchors
from keyhierarchy import creation, opening, wrapping
from keyhierarchy import keystore as keystores
from keyhierarchy.audit import AuditLog
from keyhierarchy.errors import (
    AnchorMismatch,
    AuditChainBroken,
    KeystoreInvalid,
    PolicyPurged,
    RootKeyRefused,
    RootKeyUnavailable,
    WrappedKeyInvalid,
)
from keyhierarchy.keystore import Section
from keyhierarchy.policy import PolicyState, TikGeneration, TikWrap, default_policy
from tests.keyhierarchy.fakes import FakeRootKey

STORE, POLICY = b"S" * 16, "ab" * 16
CREATED = "2026-11-21T21:28:00.123Z"
TIKS = {number: bytes([number]) * 32 for number in range(1, 5)}


def wrap_of(root: FakeRootKey, tik: bytes, slot: str = "service") -> TikWrap:
    return TikWrap(
        slot=slot,
        key_id=root.key_id,
        algorithm="RSA-OAEP-256",
        wrapped=root.wrap(tik),
        created=CREATED,
    )


def generation(root: FakeRootKey, number: int, *, endorsed_by: bytes | None = None):
    policy_id = bytes.fromhex(POLICY)
    fingerprint = wrapping.tik_fingerprint(TIKS[number], policy_id=policy_id, generation=number)
    endorsement = b""
    if number > 1:
        endorsement = wrapping.endorse_tik(
            endorsed_by or TIKS[number - 1],
            policy_id=policy_id,
            generation=number,
            fingerprint=fingerprint,
        )
    return TikGeneration(
        generation=number,
        fingerprint=fingerprint,
        endorsement=endorsement,
        wraps=(wrap_of(root, TIKS[number]),),
    )


@pytest.fixture
def root():
    return FakeRootKey()


def section_of(*generations: TikGeneration, site_under: int = 1) -> Section:
    """A section with a site whose key is under one generation, sealed with the last."""
    first = default_policy(
        POLICY, created=CREATED, fingerprint=bytes(32), wrap=generations[0].wraps[0]
    )
    policy = replace(first, tik_generations=generations)
    site = creation.new_site(
        TIKS[site_under],
        policy_id=POLICY,
        tik_generation=site_under,
        root_directory_id=bytes(16),
        workload="onedrive",
    )
    section = Section(sealed_generation=3, policy=policy, sites=(site,))
    return keystores.sealed(section, TIKS[generations[-1].generation], store_id=STORE)


def open_it(section: Section, root, pin=None):
    return opening.open_section(
        section, pin, store_id=STORE, roots=lambda _policy, _wrap: root, place="/there"
    )


def pin_at(section: Section, number: int) -> anchors.PolicyPin:
    return anchors.PolicyPin(
        policy_id=POLICY,
        tik_generation=number,
        fingerprint=wrapping.tik_fingerprint(
            TIKS[number], policy_id=bytes.fromhex(POLICY), generation=number
        ),
        sealed_generation=section.sealed_generation,
    )


def test_it_opens_the_current_key_and_those_that_sites_need(root):
    section = section_of(generation(root, 1), generation(root, 2), generation(root, 3))
    assert open_it(section, root) == {1: TIKS[1], 3: TIKS[3]}
    wrappers, metadata_key = opening.open_site(section.sites[0], TIKS)
    assert list(wrappers) == [1]
    assert len(metadata_key) == 32


def test_a_newer_key_that_the_pinned_one_endorses_is_followed(root):
    section = section_of(generation(root, 1), generation(root, 2), generation(root, 3))
    for pinned in (1, 2, 3):
        assert open_it(section, root, pin_at(section, pinned))[3] == TIKS[3]


def test_a_newer_key_that_nobody_endorses_is_refused(root):
    planted = generation(root, 2, endorsed_by=TIKS[4])
    section = section_of(generation(root, 1), planted)
    with pytest.raises(AnchorMismatch, match=r"generation 2.*not endorsed by generation 1"):
        open_it(section, root, pin_at(section, 1))


def test_a_chain_of_endorsements_with_a_gap_is_refused(root):
    section = section_of(generation(root, 1), generation(root, 3))
    with pytest.raises(KeystoreInvalid, match="lacks generation 2"):
        open_it(section, root, pin_at(section, 1))


def test_a_substituted_key_under_the_right_root_is_refused(root):
    # What anybody can do who can wrap under a public key: own key, own fingerprint, own seal.
    section = section_of(generation(root, 1))
    theirs = os.urandom(32)
    fingerprint = wrapping.tik_fingerprint(theirs, policy_id=bytes.fromhex(POLICY), generation=1)
    tik = replace(
        section.policy.current_tik, fingerprint=fingerprint, wraps=(wrap_of(root, theirs),)
    )
    forged = replace(section, policy=replace(section.policy, tik_generations=(tik,)), sites=())
    forged = keystores.sealed(forged, theirs, store_id=STORE)
    assert open_it(forged, root) == {1: theirs}  # nothing but the anchor can tell
    with pytest.raises(AnchorMismatch, match="substituted"):
        open_it(forged, root, pin_at(section, 1))


def test_a_wrap_that_opens_to_another_key_is_refused(root):
    section = section_of(generation(root, 1))
    for other in (TIKS[2], b"", TIKS[1] + b"\0"):

        class Liar(FakeRootKey):
            def unwrap(self, _wrapped, other=other):
                return other

        with pytest.raises(WrappedKeyInvalid, match="substituted") as caught:
            open_it(section, Liar())
        assert caught.value.policy_id == POLICY


def test_a_section_changed_without_the_key_is_refused(root):
    section = section_of(generation(root, 1))
    for changed in (
        replace(section, sites=()),
        replace(section, sealed_generation=4),
        replace(section, policy=replace(section.policy, name="other")),
        replace(section, seal=bytes(32)),
        replace(section, seal=b""),
    ):
        with pytest.raises(KeystoreInvalid, match="seal"):
            open_it(changed, root)


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (PolicyState.Revoked, RootKeyRefused),
        (PolicyState.PurgeRequested, PolicyPurged),
        (PolicyState.Purged, PolicyPurged),
    ],
)
def test_a_state_that_forbids_it_is_obeyed_before_a_root_is_asked(root, state, error):
    section = section_of(generation(root, 1))
    asked = root.asked
    with pytest.raises(error):
        open_it(replace(section, policy=replace(section.policy, state=state)), root)
    assert root.asked == asked


def two_roots(first: FakeRootKey, second: FakeRootKey):
    wraps = (wrap_of(first, TIKS[1], "primary"), wrap_of(second, TIKS[1], "secondary"))
    section = section_of(replace(generation(first, 1), wraps=wraps))
    by_slot = {"primary": first, "secondary": second}
    return section, lambda _policy, wrap: by_slot[wrap.slot]


def test_when_one_root_fails_the_other_is_asked():
    first, second = FakeRootKey("fake:1"), FakeRootKey("fake:2", bytes(reversed(range(64))))
    section, roots = two_roots(first, second)
    for trouble in (RootKeyUnavailable("down"), RootKeyRefused("no")):
        first.trouble = trouble
        opened = opening.open_section(section, None, store_id=STORE, roots=roots, place="/there")
        assert opened == {1: TIKS[1]}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (RootKeyRefused, RootKeyUnavailable, RootKeyUnavailable),
        (RootKeyUnavailable, RootKeyRefused, RootKeyUnavailable),
        (RootKeyRefused, RootKeyRefused, RootKeyRefused),
        (WrappedKeyInvalid, RootKeyRefused, WrappedKeyInvalid),
    ],
)
def test_when_all_roots_fail_an_outage_counts_before_a_refusal(one, other, expected):
    first, second = FakeRootKey("fake:1"), FakeRootKey("fake:2", bytes(reversed(range(64))))
    section, roots = two_roots(first, second)
    first.trouble, second.trouble = one("first"), other("second")
    with pytest.raises(expected):
        opening.open_section(section, None, store_id=STORE, roots=roots, place="/there")


def test_a_policy_without_a_wrap_that_may_be_opened_is_told(root):
    with pytest.raises(KeystoreInvalid, match="no wrap that this process may open"):
        open_it(section_of(generation(root, 1)), None)


def test_a_site_key_that_is_not_the_one_committed_to_is_refused(root):
    site = section_of(generation(root, 1)).sites[0]
    changed = replace(site, site_keys=(replace(site.site_keys[0], commitment=bytes(32)),))
    with pytest.raises(WrappedKeyInvalid, match="commits"):
        opening.open_site(changed, TIKS)


def test_site_records_swapped_between_sites_are_refused(root):
    one = section_of(generation(root, 1)).sites[0]
    other = section_of(generation(root, 1)).sites[0]
    with pytest.raises(WrappedKeyInvalid):
        opening.open_site(replace(one, site_keys=other.site_keys), TIKS)
    with pytest.raises(WrappedKeyInvalid):
        opening.open_site(replace(one, wrapped_metadata_key=other.wrapped_metadata_key), TIKS)


def test_older_site_keys_still_open(root):
    section = section_of(generation(root, 1), generation(root, 2))
    site = section.sites[0]
    site_id, policy_id = bytes.fromhex(site.site_id), bytes.fromhex(POLICY)
    new_key = os.urandom(32)
    bound = {"site_id": site_id, "generation": 2}
    second = keystores.SiteKeyGeneration(
        generation=2,
        tik_generation=2,
        wrapped_site_key=wrapping.wrap_site_key(
            TIKS[2], new_key, policy_id=policy_id, tik_generation=2, **bound
        ),
        commitment=wrapping.site_key_commitment(new_key, **bound),
    )
    old_wrappers, metadata_key = opening.open_site(site, TIKS)
    rolled = replace(
        site,
        site_keys=(*site.site_keys, second),
        wrapped_metadata_key=wrapping.wrap_metadata_key(new_key, metadata_key, **bound),
    )
    wrappers, after = opening.open_site(rolled, TIKS)
    assert after == metadata_key  # a new site key renames nothing
    wrapped = old_wrappers[1].wrap(bytes(16), TIKS[3])
    assert wrappers[1].unwrap(bytes(16), wrapped) == TIKS[3]
    assert wrappers[2].wrap(bytes(16), TIKS[3]) != wrapped


def test_a_known_store_without_a_log_is_told(tmp_path):
    log = AuditLog(str(tmp_path / "host"), STORE)
    known = anchors.Anchor(
        store_id=STORE.hex(), first_seen=CREATED, keystore_generation=1, policies=()
    )
    opening.require_log(None, log)
    with pytest.raises(AuditChainBroken, match="gone"):
        opening.require_log(known, log)
    log.append("test.event", "ok")
    opening.require_log(known, log)
