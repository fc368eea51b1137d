"""A mount with customer keys: leases through outage, denial, forgery, revocation; all by fakes."""

from __future__ import annotations

import threading
import time

import pytest
from msgspec.structs import replace

from keyhierarchy import administration, revocation, wrapping
from keyhierarchy import keystore as keystores
from keyhierarchy.administration import Settings
from keyhierarchy.errors import (
    AnchorMismatch,
    KeyHierarchyError,
    KeystoreInvalid,
    RootKeyNotListed,
    RootKeyRefused,
    RootKeyUnavailable,
    StorageUnavailable,
    WrappedKeyInvalid,
)
from tests.keyhierarchy import customer
from tests.keyhierarchy.customer import CommandedRoot, give_customer_keys, reasons, until
from tests.keyhierarchy.fakes import FakeClock

FILE, KEY = b"f" * 16, bytes(range(32))
DOWN = RootKeyUnavailable("down", cause="unreachable")
DENIED = RootKeyRefused("denied", cause="key-disabled")
QUICK = Settings(
    hedge_offset_seconds=0.05,
    opening_deadline_seconds=2,
    lease_seconds=3600,
    probe_seconds=60,
)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def roots():
    return {
        "primary": CommandedRoot("fake:1", bytes(range(64))),
        "secondary": CommandedRoot("fake:2", bytes(reversed(range(64)))),
    }


@pytest.fixture
def tik(made, roots):
    administration.configure(made.state, QUICK)
    return give_customer_keys(made, roots, more_sites=2)


@pytest.fixture
def hierarchy(made, tik, roots, clock):
    opened = made.open(clock=clock, roots=lambda _policy, wrap: roots.get(wrap.slot))
    yield opened
    opened.close()


@pytest.fixture
def lease(hierarchy, made):
    return hierarchy.lease(made.site_id)


def both(roots, trouble) -> None:
    for root in roots.values():
        root.trouble = trouble


def asked(roots) -> int:
    return sum(root.asked for root in roots.values())


def renewing(hierarchy, roots) -> threading.Thread:
    """A renewal that has asked both root keys, which hang."""
    before = asked(roots)
    renewal = threading.Thread(target=hierarchy.renew_all)
    renewal.start()
    until(lambda: asked(roots) == before + 2)
    return renewal


def health(hierarchy):
    (status,) = hierarchy.policy_status()
    return status


# Granting


def test_a_lease_lasts_as_the_settings_say_and_opens_files(lease, hierarchy, clock):
    assert lease.deadline == clock.now + 3600
    assert lease.unwrap_file_key(FILE, 1, lease.wrap_file_key(FILE, KEY)) == KEY
    assert health(hierarchy).health == "ok"


def test_any_number_of_sites_costs_one_opening(hierarchy, roots, clock):
    before = asked(roots)
    first, *others = hierarchy.sites()
    leases = [hierarchy.lease(bytes.fromhex(first.site_id))]
    clock.now += 100
    leases += [hierarchy.lease(bytes.fromhex(site.site_id)) for site in others]
    assert asked(roots) == before + 1
    assert len({lease.metadata_key for lease in leases}) == 3
    assert {lease.deadline for lease in leases} == {1000 + 3600}  # none outlives the opening
    assert hierarchy.renew_all() == []
    assert asked(roots) == before + 2


def test_kept_keys_do_not_outlive_the_lease(hierarchy, lease, roots, clock):
    clock.now += 3600
    assert hierarchy.expire() == [lease]
    both(roots, DOWN)
    other = bytes.fromhex(hierarchy.sites()[1].site_id)
    with pytest.raises(RootKeyUnavailable):
        hierarchy.lease(other)


def test_kept_keys_are_checked_against_the_keystore_again(hierarchy, lease, made):
    document = made.document()
    document["sections"][0]["sites"][1]["workload"] = "skype"
    made.write(document)
    with pytest.raises(KeystoreInvalid, match="seal"):
        hierarchy.lease(bytes.fromhex(document["sections"][0]["sites"][1]["site_id"]))


def test_a_site_that_came_later_needs_no_root_key(hierarchy, lease, made, tik, roots):
    (section,) = keystores.load(made.control, made.store_id).sections
    more = customer.new_site(
        tik, policy_id=section.policy.id, tik_generation=1, root_directory_id=FILE, workload="teams"
    )
    customer.write_section(made, replace(section, sites=(*section.sites, more)), tik)
    both(roots, DOWN)
    assert hierarchy.lease(bytes.fromhex(more.site_id)).valid


# Outage


def test_one_down_is_degraded_and_goes_on(hierarchy, lease, made, roots):
    roots["primary"].trouble = DOWN
    for _ in range(3):
        assert hierarchy.renew_all() == []
    hierarchy.probe()
    status = health(hierarchy)
    assert (status.health, status.valid_leases) == ("degraded", 1)
    by_slot = {root.slot: root for root in status.roots}
    assert (by_slot["primary"].state, by_slot["primary"].cause) == ("unavailable", "unreachable")
    assert by_slot["secondary"].last_ok
    assert len(reasons(made, "root.change")) == 1
    roots["primary"].trouble = None
    hierarchy.probe()
    assert health(hierarchy).health == "ok"
    assert reasons(made, "root.change")[-1] == "primary root key: unavailable to ok"


def test_both_down_is_bridged_with_back_off_until_the_deadline(
    hierarchy, lease, made, roots, clock
):
    start = clock.now
    both(roots, DOWN)
    tries = []
    while clock.now < start + 3600:
        clock.now += max(hierarchy.seconds_until_due(), 0.5)
        before = asked(roots)
        hierarchy.work_due()
        hierarchy.expire()
        if clock.now < lease.deadline:
            assert lease.valid
            assert lease.unwrap_file_key(FILE, 1, lease.wrap_file_key(FILE, KEY)) == KEY
        if asked(roots) > before:
            tries.append(clock.now - start)
    assert not lease.valid
    assert made.events().count("lease.bridge failed") == 1
    assert made.events().count("root.change failed") == 2
    assert 100 < len(tries) < 400
    both(roots, None)
    clock.now += 20
    assert hierarchy.work_due() == []
    assert lease.valid
    assert "lease.restore ok" in made.events()[-3:]  # a probe may come after it


def test_the_control_task_is_told_when_to_come_back(hierarchy, lease, roots, clock):
    assert hierarchy.work_due() == []  # the first probe
    assert 54 <= hierarchy.seconds_until_due() <= 60
    before = asked(roots)
    assert hierarchy.work_due() == []
    assert asked(roots) == before
    clock.now += 1700
    hierarchy.work_due()
    assert lease.deadline > 1000 + 3600 or clock.now < 1000 + 0.5 * 3600


def test_a_policy_without_leases_any_more_keeps_nobody_awake(hierarchy, lease, clock, roots):
    # As after `assign`: the lease is another policy's now, the plan of the old one still there.
    hierarchy.work_due()
    hierarchy._book.plans["cd" * 16] = hierarchy._book.plans[lease.policy_id]
    hierarchy._book.plans[lease.policy_id] = type(hierarchy._book.plans[lease.policy_id])(60, 60)
    lease.policy_id, old = "cd" * 16, lease.policy_id
    assert hierarchy.seconds_until_due() > 0
    lease.policy_id = old


# Denial


def test_one_denied_and_the_other_ok_goes_on(hierarchy, lease, roots, made):
    roots["secondary"].trouble = DENIED
    assert hierarchy.probe() == []
    assert hierarchy.renew_all() == []
    assert lease.valid
    assert health(hierarchy).health == "degraded"
    assert any("key-disabled" in reason for reason in reasons(made, "root.change"))


def test_denied_by_both_locks_at_once_and_access_that_comes_back_unlocks(
    hierarchy, lease, roots, made, clock
):
    wrapped = lease.wrap_file_key(FILE, KEY)
    both(roots, DENIED)
    assert [type(trouble) for trouble in hierarchy.probe()] == [RootKeyRefused]
    assert not lease.valid
    with pytest.raises(RootKeyRefused, match="denied") as caught:
        lease.unwrap_file_key(FILE, 1, wrapped)
    assert caught.value.cause == "key-disabled"
    assert health(hierarchy).health == "locked"
    assert made.events()[-1] == "lease.end refused"
    clock.now += 60
    hierarchy.work_due()
    assert made.events()[-1] == "lease.end refused"  # told once
    both(roots, None)
    clock.now += 60
    assert hierarchy.work_due() == []
    assert lease.unwrap_file_key(FILE, 1, wrapped) == KEY
    assert "lease.restore ok" in made.events()


def test_the_bound_between_denial_and_lock_is_the_probe_interval(hierarchy, lease, roots, clock):
    hierarchy.work_due()
    both(roots, DENIED)
    denied_at = clock.now
    while lease.valid:
        clock.now += 1
        hierarchy.work_due()
    assert clock.now - denied_at <= 60


def test_denied_by_one_and_silence_of_the_other_is_bridged(hierarchy, lease, roots, clock):
    roots["primary"].trouble, roots["secondary"].trouble = DENIED, DOWN
    hierarchy.probe()
    hierarchy.renew_all()
    assert lease.valid
    clock.now += 3600
    hierarchy.expire()
    assert not lease.valid


def test_an_answer_asked_for_before_a_denial_brings_nothing_back(hierarchy, lease, roots):
    roots["primary"].hang()
    roots["secondary"].hang()
    renewal = renewing(hierarchy, roots)
    hierarchy._book.end_policy(lease.policy_id, DENIED)
    for root in roots.values():
        root.release()
    renewal.join(10)
    assert not lease.valid


# Forgery


def test_a_root_that_opens_another_key_is_refused(hierarchy, lease, roots, made):
    for root in roots.values():
        root.lie = b"\0" * 32
    assert [type(trouble) for trouble in hierarchy.renew_all()] == [WrappedKeyInvalid]
    assert not lease.valid
    assert reasons(made, "root.disagree")


def test_a_late_disagreement_ends_the_lease_and_stays(hierarchy, lease, roots, made):
    liar = roots["primary"]
    liar.lie, liar.seconds = b"\0" * 32, 0.2
    hierarchy.renew_all()
    hierarchy.renew_all()  # the liar is asked first in one of two
    until(lambda: not lease.valid)
    until(lambda: reasons(made, "root.disagree"))
    assert [type(trouble) for trouble in hierarchy.renew_all()] == [WrappedKeyInvalid]
    liar.trouble = DOWN
    assert [type(trouble) for trouble in hierarchy.renew_all()] == [RootKeyUnavailable]
    liar.trouble = liar.lie = None
    assert hierarchy.renew_all() == []
    assert lease.valid


def test_a_substituted_tik_is_refused(made, tik, roots, clock):
    # What the owner of the store can do: an own key, wrapped under the true public keys.
    theirs = b"\7" * 32
    (section,) = keystores.load(made.control, made.store_id).sections
    made.open(roots=lambda _policy, wrap: roots.get(wrap.slot)).lease(made.site_id)  # pins
    wraps = tuple(customer.wrap_of(slot, root, theirs) for slot, root in roots.items())
    generation = replace(
        section.policy.current_tik,
        wraps=wraps,
        fingerprint=wrapping.tik_fingerprint(
            theirs, policy_id=bytes.fromhex(section.policy.id), generation=1
        ),
    )
    forged = replace(
        section, sites=(), policy=replace(section.policy, tik_generations=(generation,))
    )
    site = customer.new_site(
        theirs,
        policy_id=section.policy.id,
        tik_generation=1,
        root_directory_id=FILE,
        workload="teams",
    )
    customer.write_section(made, replace(forged, sites=(site,)), theirs)
    before = asked(roots)
    hierarchy = made.open(roots=lambda _policy, wrap: roots.get(wrap.slot))
    with pytest.raises(AnchorMismatch, match="substituted"):
        hierarchy.lease(bytes.fromhex(site.site_id))
    assert asked(roots) == before


def test_a_key_that_is_not_listed_is_refused_before_anybody_is_asked(made, tik, roots, clock):
    (section,) = keystores.load(made.control, made.store_id).sections
    planted = "https://evil.example/keys/k/" + "0" * 32
    first, second = section.policy.current_tik.wraps
    wraps = (first, replace(second, key_id=planted))
    generation = replace(section.policy.current_tik, wraps=wraps)
    policy = replace(section.policy, tik_generations=(generation,))
    customer.write_section(made, replace(section, policy=policy), tik)
    before = asked(roots)
    known = administration.load(made.state)

    def source(policy, wrap):
        if wrap.key_id.startswith("https://"):
            known.check(wrap.key_id, policy_id=policy.id, slot=wrap.slot)
        return roots[wrap.slot]

    with pytest.raises(RootKeyNotListed, match=r"vault evil.example"):
        made.open(roots=source).lease(made.site_id)
    assert asked(roots) == before
    # The real source says the same, and has not even loaded the client.
    generation = replace(generation, wraps=(replace(first, key_id=planted), wraps[1]))
    policy = replace(policy, tik_generations=(generation,))
    customer.write_section(made, replace(section, policy=policy), tik)
    real = made.open()
    with pytest.raises(RootKeyNotListed, match=r"vault evil.example"):
        real.lease(made.site_id)
    assert made.events()[-1] == "site-key.open refused"


# The host's own revocation


def test_revocation_on_this_host_ends_leases_at_once_and_undo_brings_them_back(
    hierarchy, lease, made, clock, roots
):
    wrapped = lease.wrap_file_key(FILE, KEY)
    assert hierarchy.check_revocation() == []
    revocation.set(made.state, made.policy_id, "ticket 4711")
    before = asked(roots)
    assert hierarchy.check_revocation() == [lease]
    assert hierarchy.check_revocation() == []
    assert asked(roots) == before
    with pytest.raises(RootKeyRefused, match="ticket 4711") as caught:
        lease.unwrap_file_key(FILE, 1, wrapped)
    assert caught.value.cause == "revoked-on-host"
    assert health(hierarchy).revoked_on_host
    assert [type(trouble) for trouble in hierarchy.renew_all()] == [RootKeyRefused]
    assert hierarchy.probe() == []
    assert asked(roots) == before  # who is shut out here asks nobody
    clock.now += 200
    hierarchy.work_due()
    assert not lease.valid
    with pytest.raises(RootKeyRefused):
        hierarchy.lease(made.site_id)
    with pytest.raises(RootKeyRefused):
        made.open(roots=hierarchy._policies._roots).lease(made.site_id)
    revocation.clear(made.state, made.policy_id)
    assert hierarchy.check_revocation() == []
    assert hierarchy.seconds_until_due() == 0
    assert hierarchy.work_due() == []
    assert lease.unwrap_file_key(FILE, 1, wrapped) == KEY


def test_a_revocation_during_a_renewal_wins(hierarchy, lease, made, roots):
    for root in roots.values():
        root.hang()
    renewal = renewing(hierarchy, roots)
    revocation.set(made.state, made.policy_id, "now")
    for root in roots.values():
        root.release()
    renewal.join(10)
    assert not lease.valid


def test_looking_for_a_revocation_is_cheap(hierarchy, lease):
    hierarchy.check_revocation()
    started = time.perf_counter()
    for _ in range(1000):
        hierarchy.check_revocation()
    assert (time.perf_counter() - started) / 1000 < 0.001


# Nothing waits for a root that hangs


def test_neither_a_new_site_nor_expiry_nor_close_waits_for_roots_that_hang(
    hierarchy, lease, roots, clock
):
    for root in roots.values():
        root.hang()
    renewal = renewing(hierarchy, roots)
    started = time.monotonic()
    assert hierarchy.lease(bytes.fromhex(hierarchy.sites()[1].site_id)).valid
    hierarchy.check_revocation()
    hierarchy.policy_status()
    clock.now += 3600
    assert len(hierarchy.expire()) == 2
    hierarchy.close()
    assert time.monotonic() - started < 1
    for root in roots.values():
        root.release()
    renewal.join(10)
    assert not lease.valid


def test_a_log_that_fails_while_a_root_is_heard_is_told_later(hierarchy, lease, roots, monkeypatch):
    def fails(*_args, **_kwargs):
        raise StorageUnavailable("log disk full")

    roots["primary"].trouble = DOWN
    monkeypatch.setattr(hierarchy._audit, "append", fails)
    troubles: list[KeyHierarchyError] = hierarchy.work_due()
    assert StorageUnavailable in {type(trouble) for trouble in troubles}
    monkeypatch.undo()


def test_a_mount_follows_a_new_wrap_at_the_next_probe(hierarchy, lease, made, tik, roots, clock):
    hierarchy.probe()
    new = CommandedRoot("fake:3", bytes(64))
    (section,) = keystores.load(made.control, made.store_id).sections
    wraps = (section.policy.current_tik.wraps[0], customer.wrap_of("secondary", new, tik))
    generation = replace(section.policy.current_tik, wraps=wraps)
    policy = replace(section.policy, tik_generations=(generation,))
    customer.write_section(made, replace(section, policy=policy), tik)
    roots["secondary"] = new
    clock.now += 10
    assert hierarchy.probe() == []
    assert lease.deadline == clock.now + 3600
    keys = {root.key_id for root in health(hierarchy).roots}
    assert "fake:2" not in keys
