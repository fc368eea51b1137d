"""The mount's door: leases granted, renewed, bridged, ended; and what a lying store meets."""

from __future__ import annotations

import os
import shutil
import threading

import pytest
from msgspec.structs import replace

from keyhierarchy import anchor as anchors
from keyhierarchy import keystore as keystores
from keyhierarchy import servicekeys
from keyhierarchy.creation import new_site
from keyhierarchy.errors import (
    AnchorMismatch,
    AuditChainBroken,
    KeyHierarchyError,
    KeystoreInvalid,
    KeystoreMissing,
    PolicyPurged,
    RootKeyMissing,
    RootKeyRefused,
    RootKeyUnavailable,
    SiteUnknown,
    StorageUnavailable,
    UnsafePermissions,
    WrappedKeyInvalid,
)
from keyhierarchy.hierarchy import Hierarchy, create_store_keys
from tests.keyhierarchy.fakes import FakeClock

FILE, KEY = b"f" * 16, bytes(range(32))


class SwitchedRoot:
    """The real service-managed root with a switch for trouble, as a source of roots."""

    def __init__(self, state: str) -> None:
        self._source = servicekeys.service_roots(state)
        self.trouble: KeyHierarchyError | None = None
        self.asked = 0

    def __call__(self, policy, wrap):
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return self._source(policy, wrap)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def roots(made):
    return SwitchedRoot(made.state)


@pytest.fixture
def hierarchy(made, clock, roots):
    opened = made.open(lease_seconds=60, clock=clock, roots=roots)
    yield opened
    opened.close()


@pytest.fixture
def lease(hierarchy, made):
    return hierarchy.lease(made.site_id)


def test_a_lease_wraps_and_opens_file_keys(hierarchy, lease, made, clock):
    assert not hierarchy.first_sight
    assert lease.valid
    assert lease.generation == 1
    assert lease.deadline == clock.now + 60
    assert lease.site_id == made.site_id
    assert lease.root_directory_id == made.root_directory_id
    assert len(lease.metadata_key) == 32
    wrapped = lease.wrap_file_key(FILE, KEY)
    assert lease.unwrap_file_key(FILE, 1, wrapped) == KEY
    assert hierarchy.lease(made.site_id) is lease


def test_the_keys_are_the_same_after_opening_again(made, lease):
    wrapped, metadata_key = lease.wrap_file_key(FILE, KEY), lease.metadata_key
    again = made.open().lease(made.site_id)
    assert again.unwrap_file_key(FILE, 1, wrapped) == KEY
    assert again.metadata_key == metadata_key


def test_the_audit_log_tells_of_open_and_close(made, hierarchy, lease):
    hierarchy.close()
    hierarchy.close()
    assert made.events()[-2:] == ["site-key.open ok", "site-key.close ok"]


def test_sites_are_listed(hierarchy, made):
    assert [site.site_id for site in hierarchy.sites()] == [made.site_id.hex()]


def test_a_site_that_is_not_there_is_told(hierarchy):
    with pytest.raises(SiteUnknown):
        hierarchy.lease(bytes(16))


# Renewal


def test_renewal_moves_the_deadline_and_says_nothing(hierarchy, lease, made, clock):
    events = made.events()
    clock.now += 50
    hierarchy.renew(lease)
    assert lease.deadline == clock.now + 60
    assert hierarchy.renew_all() == []
    assert made.events() == events


def test_the_deadline_counts_from_when_the_root_was_asked(hierarchy, lease, clock, roots):
    real = roots._source

    def slow(policy, wrap):
        clock.now += 20
        return real(policy, wrap)

    roots._source = slow
    asked_at = clock.now
    hierarchy.renew(lease)
    assert lease.deadline == asked_at + 60


@pytest.mark.parametrize("kind", [RootKeyUnavailable, StorageUnavailable, KeystoreInvalid])
def test_an_outage_is_bridged_until_the_deadline(made, kind):
    clock, roots = FakeClock(), SwitchedRoot(made.state)
    hierarchy = made.open(lease_seconds=60, clock=clock, roots=roots)
    lease = hierarchy.lease(made.site_id)
    roots.trouble = kind("does not answer")
    wrapped = lease.wrap_file_key(FILE, KEY)
    for _ in range(5):
        clock.now += 11
        with pytest.raises(kind, match="does not answer"):
            hierarchy.renew(lease)
        assert lease.valid
        assert lease.unwrap_file_key(FILE, 1, wrapped) == KEY
    assert made.events()[-1] == "lease.bridge failed"
    assert made.events().count("lease.bridge failed") == 1  # not once a minute
    clock.now += 5
    with pytest.raises(kind):
        hierarchy.renew(lease)
    assert not lease.valid
    with pytest.raises(kind, match="does not answer"):
        lease.unwrap_file_key(FILE, 1, wrapped)
    assert made.events()[-1] == "lease.expire failed"


def test_after_an_outage_it_goes_on(hierarchy, lease, made, clock, roots):
    roots.trouble = RootKeyUnavailable("down")
    clock.now += 30
    assert [type(trouble) for trouble in hierarchy.renew_all()] == [RootKeyUnavailable]
    roots.trouble = None
    assert hierarchy.renew_all() == []
    assert lease.valid
    assert lease.deadline == clock.now + 60
    assert made.events()[-2:] == ["lease.bridge failed", "lease.restore ok"]


@pytest.mark.parametrize(
    "kind",
    [
        RootKeyRefused,
        RootKeyMissing,
        UnsafePermissions,
        PolicyPurged,
        AnchorMismatch,
        WrappedKeyInvalid,
    ],
)
def test_a_refusal_ends_the_lease_at_once_and_a_later_grant_restores_it(
    hierarchy, lease, made, roots, kind
):
    wrapped = lease.wrap_file_key(FILE, KEY)
    roots.trouble = kind("said no")
    assert [str(trouble) for trouble in hierarchy.renew_all()] == ["said no"]
    assert not lease.valid
    for use in (
        lambda: lease.unwrap_file_key(FILE, 1, wrapped),
        lambda: lease.wrap_file_key(FILE, KEY),
        lambda: lease.metadata_key,
    ):
        with pytest.raises(kind, match="said no"):
            use()
    assert made.events()[-1] == "lease.end refused"
    hierarchy.renew_all()
    assert made.events()[-1] == "lease.end refused"  # told once
    roots.trouble = None
    assert hierarchy.renew_all() == []
    assert lease.unwrap_file_key(FILE, 1, wrapped) == KEY
    assert made.events()[-1] == "lease.restore ok"


def test_a_refusal_during_an_outage_ends_it(hierarchy, lease, roots):
    roots.trouble = RootKeyUnavailable("down")
    hierarchy.renew_all()
    assert lease.valid
    roots.trouble = RootKeyRefused("no")
    hierarchy.renew_all()
    assert not lease.valid


def test_expire_ends_what_is_late_without_asking(hierarchy, lease, made, clock, roots):
    clock.now += 59.9
    assert hierarchy.expire() == []
    assert lease.valid
    clock.now += 0.1
    asked = roots.asked
    assert hierarchy.expire() == [lease]
    assert roots.asked == asked
    with pytest.raises(RootKeyUnavailable, match="60 s"):
        lease.metadata_key  # noqa: B018 - reading it is the test
    assert hierarchy.expire() == []
    assert made.events()[-1] == "lease.expire ok"
    hierarchy.renew(lease)
    assert lease.valid


def test_a_lease_asked_for_after_its_end_is_the_same_object_again(hierarchy, lease, made, clock):
    clock.now += 61
    hierarchy.expire()
    assert hierarchy.lease(made.site_id) is lease
    assert lease.valid


def test_neither_expire_nor_close_waits_for_a_root_that_hangs(hierarchy, lease, clock, roots):
    entered, leave = threading.Event(), threading.Event()
    real = roots._source

    def hangs(policy, wrap):
        entered.set()
        assert leave.wait(30)
        return real(policy, wrap)

    roots._source = hangs
    troubles: list[KeyHierarchyError] = []
    renewal = threading.Thread(target=lambda: troubles.extend(hierarchy.renew_all()))
    renewal.start()
    assert entered.wait(30)
    clock.now += 61
    assert hierarchy.expire() == [lease]
    assert not lease.valid
    hierarchy.close()
    leave.set()
    renewal.join(30)
    assert not lease.valid  # the late answer brought nothing back
    assert [type(trouble) for trouble in troubles] == [RootKeyUnavailable]


def test_close_drops_the_keys(hierarchy, lease):
    hierarchy.close()
    assert not lease.valid
    with pytest.raises(RootKeyUnavailable, match="mount is ending"):
        lease.wrap_file_key(FILE, KEY)
    with pytest.raises(RootKeyUnavailable):
        hierarchy.renew(lease)
    assert not lease.valid


def test_a_mount_follows_a_rewrap(hierarchy, lease, made):
    wrapped = lease.wrap_file_key(FILE, KEY)
    servicekeys.roll_service_key(made.state)
    assert len(servicekeys.rewrap_store(made.control, made.state, made.store_id)) == 1
    assert hierarchy.renew_all() == []
    assert lease.unwrap_file_key(FILE, 1, wrapped) == KEY


# The service-managed root itself


def test_a_lost_service_key_ends_the_lease_and_says_where_it_was(hierarchy, lease, made):
    os.rename(made.service_keys, made.folder / "gone")
    (trouble,) = hierarchy.renew_all()
    assert isinstance(trouble, RootKeyMissing)
    assert str(made.service_keys) in str(trouble)
    assert not lease.valid
    os.rename(made.folder / "gone", made.service_keys)
    assert hierarchy.renew_all() == []
    assert lease.valid


def test_another_host_without_the_key_gets_nothing(made, tmp_path):
    other = Hierarchy.open(made.control, str(tmp_path / "other"), made.store_id)
    assert other.first_sight
    with pytest.raises(RootKeyMissing, match="backup"):
        other.lease(made.site_id)
    # It has not trusted what it could not open.
    assert not (tmp_path / "other" / "stores" / made.store_id.hex() / "anchor.json").exists()


# First sight, rollback, forgery


@pytest.fixture
def other_host(made, tmp_path) -> str:
    """Another host that has been given the service keys and has never seen the store."""
    state = tmp_path / "second"
    state.mkdir(mode=0o700)
    shutil.copytree(made.service_keys, state / "service-keys")
    return str(state)


def test_first_sight_is_said_and_audited_and_pinned(made, other_host):
    first = Hierarchy.open(made.control, other_host, made.store_id)
    assert first.first_sight
    first.lease(made.site_id)
    second = Hierarchy.open(made.control, other_host, made.store_id)
    assert not second.first_sight
    records = second._audit.records()
    assert [record.event for record in records] == ["store.trust", "site-key.open"]


def test_a_forgery_at_first_sight_pins_nothing(made, other_host):
    document = made.document()
    good = made.keystore.read_bytes()
    document["sections"][0]["policy"]["name"] = "forged"
    made.write(document)
    first = Hierarchy.open(made.control, other_host, made.store_id)
    with pytest.raises(KeystoreInvalid, match="seal"):
        first.lease(made.site_id)
    made.keystore.write_bytes(good)
    assert Hierarchy.open(made.control, other_host, made.store_id).first_sight


def test_an_older_keystore_is_refused(made):
    old = made.keystore.read_bytes()
    servicekeys.roll_service_key(made.state)
    servicekeys.rewrap_store(made.control, made.state, made.store_id)
    made.keystore.write_bytes(old)
    with pytest.raises(AnchorMismatch, match="rolled back"):
        made.open()


def test_an_older_section_under_a_new_number_is_refused(made):
    old = made.document()
    servicekeys.roll_service_key(made.state)
    servicekeys.rewrap_store(made.control, made.state, made.store_id)
    made.write(old | {"generation": 99})
    with pytest.raises(KeystoreInvalid, match="newest section"):
        made.open()


def test_a_made_up_generation_is_refused_and_not_remembered(made):
    good = made.keystore.read_bytes()
    document = made.document() | {"generation": 99}
    document["sections"][0]["sealed_generation"] = 99
    made.write(document)
    with pytest.raises(KeystoreInvalid, match="seal"):
        made.open().lease(made.site_id)
    made.keystore.write_bytes(good)
    assert made.open().lease(made.site_id).valid


def test_a_rollback_under_a_running_mount_ends_its_leases(hierarchy, lease, made):
    old = made.keystore.read_bytes()
    servicekeys.roll_service_key(made.state)
    servicekeys.rewrap_store(made.control, made.state, made.store_id)
    assert hierarchy.renew_all() == []
    made.keystore.write_bytes(old)
    assert [type(trouble) for trouble in hierarchy.renew_all()] == [AnchorMismatch]
    assert not lease.valid


def test_a_keystore_that_is_away_for_a_moment_is_bridged(hierarchy, lease, made, clock):
    kept = made.keystore.read_bytes()
    made.keystore.unlink()
    assert [type(trouble) for trouble in hierarchy.renew_all()] == [KeystoreMissing]
    assert lease.valid
    clock.now += 60
    hierarchy.renew_all()
    assert not lease.valid
    made.keystore.write_bytes(kept)
    assert hierarchy.renew_all() == []
    assert lease.valid


def test_a_site_that_vanished_from_the_keystore_is_bridged_and_told(hierarchy, lease, made):
    document = made.document()
    document["sections"][0]["sites"] = []
    made.write(document)
    assert [type(trouble) for trouble in hierarchy.renew_all()] == [SiteUnknown]
    assert lease.valid


def test_a_swapped_wrap_is_refused(made, tmp_path):
    other = type(made)(tmp_path / "b")
    os.makedirs(other.control)
    create_store_keys(other.control, made.state, other.store_id, bytes(16))
    document = made.document()
    wraps = other.document()["sections"][0]["policy"]["tik_generations"][0]["wraps"]
    document["sections"][0]["policy"]["tik_generations"][0]["wraps"] = wraps
    made.write(document)
    with pytest.raises(WrappedKeyInvalid):
        made.open().lease(made.site_id)
    assert made.events()[-1] == "site-key.open refused"


def test_a_whole_other_keystore_is_refused(made, tmp_path):
    other = type(made)(tmp_path / "b", store_id=made.store_id)
    os.makedirs(other.control)
    create_store_keys(other.control, str(tmp_path / "state-b"), made.store_id, bytes(16))
    shutil.copy(other.keystore, made.keystore)
    with pytest.raises(AnchorMismatch):
        made.open()


def test_the_state_folder_must_lie_outside_and_be_private(made):
    with pytest.raises(UnsafePermissions, match="inside the store"):
        Hierarchy.open(made.control, made.store + "/state", made.store_id)
    os.chmod(made.state, 0o740)
    with pytest.raises(UnsafePermissions, match="chmod 0700"):
        made.open()


# The log


def test_no_key_is_handed_out_without_a_record(made, monkeypatch):
    hierarchy = made.open()

    def fails(*_args, **_kwargs):
        raise StorageUnavailable("log disk full")

    with monkeypatch.context() as patch:
        patch.setattr(hierarchy._audit, "append", fails)
        with pytest.raises(StorageUnavailable, match="log disk full"):
            hierarchy.lease(made.site_id)
    assert hierarchy._book.by_site == {}
    assert hierarchy.lease(made.site_id).valid


def test_a_log_that_cannot_be_written_changes_no_decision(hierarchy, lease, roots, monkeypatch):
    def fails(*_args, **_kwargs):
        raise StorageUnavailable("log disk full")

    monkeypatch.setattr(hierarchy._audit, "append", fails)
    roots.trouble = RootKeyRefused("no")
    troubles = hierarchy.renew_all()
    assert [type(trouble) for trouble in troubles] == [RootKeyRefused, StorageUnavailable]
    assert not lease.valid
    monkeypatch.undo()


def test_a_store_whose_log_is_gone_is_not_opened(made):
    for name in ("audit.log", "audit.head"):
        (made.host / name).unlink()
    with pytest.raises(AuditChainBroken, match="audit restart"):
        made.open()


def test_several_sites_of_a_policy_ask_the_root_once(made, clock, roots):
    keystore = keystores.load(made.control, made.store_id)
    (section,) = keystore.sections
    policy = section.policy
    tik = servicekeys.service_root(made.state, policy.id).unwrap(
        policy.current_tik.wraps[0].wrapped
    )
    more = [
        new_site(
            tik,
            policy_id=policy.id,
            tik_generation=1,
            root_directory_id=os.urandom(16),
            workload="teams",
        )
        for _ in range(3)
    ]
    section = replace(section, sites=(*section.sites, *more), sealed_generation=2)
    section = keystores.sealed(section, tik, store_id=made.store_id)
    keystores.store(made.control, replace(keystore, generation=2, sections=(section,)))
    hierarchy = made.open(lease_seconds=60, clock=clock, roots=roots)
    leases = [hierarchy.lease(bytes.fromhex(site.site_id)) for site in section.sites]
    roots.asked = 0
    assert hierarchy.renew_all() == []
    assert roots.asked == 1
    assert len({lease.metadata_key for lease in leases}) == 4
    known = anchors.AnchorFile(str(made.host)).load()
    assert (known.keystore_generation, known.policies[0].sealed_generation) == (2, 2)
    roots.trouble = RootKeyRefused("no")
    assert len(hierarchy.renew_all()) == 1
    assert not any(lease.valid for lease in leases)
