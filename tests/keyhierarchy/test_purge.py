"""Purge: request, second person, wait, denial of both vaults, destruction, honest certificate."""

from __future__ import annotations

import contextlib
import json
import os

import pytest

from keyhierarchy.errors import (
    AnchorMismatch,
    PolicyPurged,
    PurgeIncomplete,
    RootKeyMissing,
    RootKeyRefused,
    RootKeyUnavailable,
    TransitionRefused,
)
from keyhierarchy.lifecycle import backups, marks, purgerecord, purging, register
from keyhierarchy.policy import PolicyState
from tests.keyhierarchy.lifecycle_fakes import PRIMARY, SECONDARY, World

DENIED = RootKeyRefused("no permission", cause="no-permission")
GONE = RootKeyRefused("there is no such key", cause="key-not-found")


@pytest.fixture
def world(place, monkeypatch) -> World:
    made = World(place, 2)
    register.register(made.store, made.rooms, primary=PRIMARY, secondary=SECONDARY)
    made.add_files()
    made.rooms.waiting = 0.0
    made.be = lambda name: monkeypatch.setattr(purging, "account", lambda: name)
    made.be("alice")
    return made


def request(world, **options):
    asked = {"reason": "leaving", "contact": "alice@example.org", "approver": "bob"}
    return purging.request(world.store, world.rooms, **(asked | options))


def approve(world):
    world.be("bob")
    return purging.approve(world.store, world.rooms)


def ready(world):
    request(world)
    approve(world)
    world.rooms.trouble(PRIMARY, SECONDARY, error=DENIED)


def execute(world, **options):
    return purging.execute(world.store, world.rooms, **options)


def unmake_service_keys(world):
    """Destroy the old root, as the certificate asks for."""
    for file in world.place.service_keys.glob("*.key"):
        file.unlink()


def test_the_request_closes_the_policy_and_can_be_cancelled(world):
    outcome = request(world)
    assert outcome.state_after == "PurgeRequested"
    assert outcome.facts["requester"] == "alice"
    with pytest.raises(PolicyPurged):
        world.check()
    assert world.policy.id in world.rooms.revoked
    purging.cancel(world.store, world.rooms)
    assert world.section.state is PolicyState.Registered
    assert world.rooms.revoked == {}
    world.check()
    assert purging.show(world.store, None)["request"] is None


def test_a_policy_that_was_revoked_before_is_revoked_again_after_cancelling(world):
    marks.revoke(world.store, world.rooms, reason="x")
    request(world)
    purging.cancel(world.store, world.rooms)
    assert world.section.state is PolicyState.Revoked
    assert world.policy.id in world.rooms.revoked


def test_nobody_approves_an_own_request(world):
    before = world.bytes()
    with pytest.raises(TransitionRefused, match="cannot approve it as well"):
        request(world, approver="alice")
    assert world.bytes() == before
    request(world)
    with pytest.raises(TransitionRefused, match="names bob"):
        purging.approve(world.store, world.rooms)
    with pytest.raises(TransitionRefused, match="not approved"):
        execute(world)


def test_it_waits(world):
    world.rooms.waiting = 72 * 3600.0
    request(world)
    approve(world)
    world.rooms.trouble(PRIMARY, SECONDARY, error=DENIED)
    before = world.bytes()
    with pytest.raises(TransitionRefused, match="waits until"):
        execute(world)
    assert world.bytes() == before


def test_it_is_refused_while_a_vault_opens_the_keys(world):
    ready(world)
    before = world.bytes()
    for slot in (PRIMARY, SECONDARY):
        world.rooms.trouble(slot, error=None)
        with pytest.raises(TransitionRefused, match="still opens"):
            execute(world)
        world.rooms.trouble(slot, error=DENIED)
    world.rooms.trouble(SECONDARY, error=RootKeyUnavailable("down"))
    with pytest.raises(TransitionRefused, match="cannot be told"):
        execute(world)
    assert world.bytes() == before
    assert len(world.rooms.availability_keys) == 1


def test_it_fails_rather_than_claims(world):
    ready(world)
    with pytest.raises(PurgeIncomplete, match="can survive") as failed:
        execute(world)
    assert PRIMARY in str(failed.value)
    assert "master key" in str(failed.value)
    (certificate,) = certificates(world)
    assert certificate["complete"] is False
    assert {place["kind"] for place in certificate["places"]} == {
        "vault",
        "service-key",
        "availability",
        "copies",
    }


def certificates(world) -> list[dict]:
    files = sorted(world.place.host.glob("purge-certificate-*.json"))
    return [json.loads(file.read_text()) for file in files]


def test_complete_when_every_root_key_is_gone(world):
    old = world.bytes()
    ready(world)
    world.rooms.trouble(PRIMARY, SECONDARY, error=GONE)
    unmake_service_keys(world)
    outcome = execute(world)
    assert outcome.state_after == "Purged"
    assert outcome.facts["complete"] is True
    assert world.rooms.availability_keys == {}
    text = world.bytes().decode()
    for tik in world.policy.tik_generations:
        assert tik.wraps == ()
    for site in world.section.sites:
        for key in site.site_keys:
            assert key.wrapped_site_key == bytes(48)
        assert site.wrapped_metadata_key == bytes(48)
    for line in old.decode().splitlines():
        if '"wrapped' in line:
            assert line.split('"')[3] not in text
    (certificate,) = certificates(world)
    assert certificate["complete"] is True
    assert certificate["sites"] == [site.site_id for site in world.section.sites]
    assert certificate["request"]["requester"] == "alice"
    assert certificate["request"]["approver"] == "bob"
    assert f"primary {PRIMARY}" in certificate["root_keys"]
    with pytest.raises(PolicyPurged):
        world.check()


def test_no_way_back(world, tmp_path):
    backup = str(tmp_path / "backup.json")
    backups.back_up(world.store, backup)
    old = world.bytes()
    ready(world)
    with pytest.raises(PurgeIncomplete, match="backup"):
        execute(world)
    world.rooms.trouble(PRIMARY, SECONDARY, error=None)
    with pytest.raises(PolicyPurged):
        world.check()
    with pytest.raises(PolicyPurged, match="was purged"):
        backups.put_back(world.store, world.rooms, backup, accept_older=True)
    with pytest.raises(TransitionRefused, match="destroyed"):
        purging.cancel(world.store, world.rooms)
    with pytest.raises(TransitionRefused, match="destroyed"):
        register.register(world.store, world.rooms, primary=PRIMARY, secondary=SECONDARY)
    # An old keystore that somebody puts there is refused by this host.
    world.place.keystore.write_bytes(old)
    with pytest.raises(AnchorMismatch, match="rolled back"):
        world.check()


def test_looking_again_writes_a_new_certificate(world):
    ready(world)
    with pytest.raises(PurgeIncomplete):
        execute(world)
    world.rooms.trouble(PRIMARY, SECONDARY, error=GONE)
    with pytest.raises(PurgeIncomplete, match="master key"):
        execute(world)
    unmake_service_keys(world)
    assert execute(world).facts["complete"] is True
    assert [one["complete"] for one in certificates(world)] == [False, False, True]


def test_a_vault_that_is_gone_for_good_takes_force(world):
    ready(world)
    world.rooms.trouble(PRIMARY, error=RootKeyMissing("gone"))
    world.rooms.trouble(SECONDARY, error=RootKeyUnavailable("no such host"))
    with pytest.raises(PurgeIncomplete):
        execute(world, force=True)
    assert world.section.state is PolicyState.Purged


def test_a_dry_run_lists_the_places_and_destroys_nothing(world):
    ready(world)
    before = world.bytes()
    outcome = execute(world, dry_run=True)
    assert outcome.state_after == "Purged"
    assert len(outcome.facts["places"]) >= 4
    assert world.bytes() == before
    assert len(world.rooms.availability_keys) == 1


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("after", [False, True])
def test_cut_short_and_run_again(world, monkeypatch, number, after):
    from tests.keyhierarchy.test_lifecycle_cut import Cut, Killed  # noqa: PLC0415

    ready(world)
    world.rooms.trouble(PRIMARY, SECONDARY, error=GONE)
    unmake_service_keys(world)
    with monkeypatch.context() as patch:
        Cut(patch, number, after=after)
        with contextlib.suppress(Killed):
            execute(world)
    outcome = execute(world)
    assert outcome.facts["complete"] is True
    assert certificates(world)[-1]["root_keys"]
    assert certificates(world)[-1]["sites"]


def test_other_policies_go_on(world):
    from keyhierarchy.lifecycle import assigning  # noqa: PLC0415

    assigning.create_policy(world.store, world.rooms, "other")
    site = world.section.sites[1].site_id
    assigning.assign(world.store, world.rooms, site, "other")
    world.files = [file for file in world.files if file[0].hex() == site]
    asked = {"reason": "r", "contact": "c", "approver": "bob", "policy": "default"}
    purging.request(world.store, world.rooms, **asked)
    world.be("bob")
    purging.approve(world.store, world.rooms, policy="default")
    world.rooms.trouble(PRIMARY, SECONDARY, error=DENIED)
    with pytest.raises(PurgeIncomplete):
        execute(world, policy="default")
    world.check()


def test_the_account_is_the_one_behind_sudo(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert purgerecord.account() == "root"
    monkeypatch.setenv("SUDO_UID", "4000123")
    assert purgerecord.account() == "uid-4000123"
    monkeypatch.setattr(os, "geteuid", lambda: 5)
    assert purgerecord.account() == "root"


def test_a_request_of_another_host_is_not_acted_on(world):
    request(world)
    purgerecord.remove(world.store, world.policy.id)
    with pytest.raises(TransitionRefused, match="another host"):
        approve(world)
    purging.cancel(world.store, world.rooms)
    world.check()


def test_an_old_master_key_is_a_place_even_when_it_was_rewrapped_before(place, monkeypatch):
    from keyhierarchy import servicekeys  # noqa: PLC0415

    world = World(place, 1)
    (first,) = servicekeys.service_keys(place.state).masters()
    servicekeys.roll_service_key(place.state)
    servicekeys.rewrap_store(place.control, place.state, place.store_id)
    register.register(world.store, world.rooms, primary=PRIMARY, secondary=SECONDARY)
    world.rooms.waiting = 0.0
    world.be = lambda name: monkeypatch.setattr(purging, "account", lambda: name)
    world.be("alice")
    request(world)
    approve(world)
    world.rooms.trouble(PRIMARY, SECONDARY, error=GONE)
    with pytest.raises(PurgeIncomplete, match=first.id):
        execute(world)


def test_rewrap_waits_for_a_change_that_was_cut_short(place):
    from keyhierarchy import servicekeys  # noqa: PLC0415
    from keyhierarchy.lifecycle import rolling, session  # noqa: PLC0415

    world = World(place, 1)

    def stop(name):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rolling.roll_tik(world.store, world.rooms, watch=session.Watch(step=stop))
    servicekeys.roll_service_key(place.state)
    with pytest.raises(TransitionRefused, match="resume"):
        servicekeys.rewrap_store(place.control, place.state, place.store_id)
