"""Backups of the keystore, which keys they need, and which key versions may be disabled."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from keyhierarchy.errors import (
    AnchorMismatch,
    KeystoreInvalid,
    RootKeyUnavailable,
    TransitionRefused,
)
from keyhierarchy.lifecycle import assigning, backups, register, rolling, showing, usage
from tests.keyhierarchy.lifecycle_fakes import PRIMARY, SECONDARY, World, key_id


@pytest.fixture
def world(place) -> World:
    made = World(place, 2)
    register.register(made.store, made.rooms, primary=PRIMARY, secondary=SECONDARY)
    made.add_files()
    return made


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "backup.json")


def test_a_backup_says_what_it_needs_and_comes_back(world, path):
    facts = backups.back_up(world.store, path)
    assert f"default primary {PRIMARY}" in facts["needs"]
    assert f"default secondary {SECONDARY}" in facts["needs"]
    assert not any("successor" in need for need in facts["needs"])
    os.unlink(world.place.keystore)
    told = backups.put_back(world.store, world.rooms, path)
    assert told["older"] is False
    world.check()


def test_over_a_damaged_keystore(world, path):
    backups.back_up(world.store, path)
    world.place.keystore.write_bytes(b"{}")
    told = backups.put_back(world.store, world.rooms, path)
    assert Path(told["replaced"]).read_bytes() == b"{}"
    world.check()


def test_an_older_backup_must_be_accepted(world, path):
    backups.back_up(world.store, path)
    rolling.roll_root(world.store, world.rooms, "primary", key_id=key_id(2))
    before = world.bytes()
    with pytest.raises(AnchorMismatch, match="accept-older"):
        backups.put_back(world.store, world.rooms, path)
    assert world.bytes() == before
    backups.put_back(world.store, world.rooms, path, accept_older=True)
    world.check()
    assert "store.trust ok" in world.place.events()


def test_a_backup_that_no_root_opens_replaces_nothing(world, path):
    backups.back_up(world.store, path)
    world.rooms.trouble(PRIMARY, SECONDARY, error=RootKeyUnavailable("down"))
    before = world.bytes()
    with pytest.raises(RootKeyUnavailable):
        backups.put_back(world.store, world.rooms, path)
    assert world.bytes() == before


def test_a_forged_backup_is_refused(world, path):
    backups.back_up(world.store, path)
    import base64  # noqa: PLC0415

    document = json.loads(Path(path).read_text())
    keystore = json.loads(base64.b64decode(document["keystore"]))
    keystore["sections"][0]["policy"]["name"] = "forged"
    document["keystore"] = base64.b64encode(json.dumps(keystore).encode()).decode()
    with open(path, "w") as file:
        json.dump(document, file)
    with pytest.raises(KeystoreInvalid, match="seal"):
        backups.put_back(world.store, world.rooms, path)


def test_a_dry_run(world, path):
    backups.back_up(world.store, path)
    os.unlink(world.place.keystore)
    assert backups.put_back(world.store, world.rooms, path, dry_run=True)["dry_run"]
    assert not world.place.keystore.exists()


def test_no_file_is_overwritten(world, path):
    backups.back_up(world.store, path)
    with pytest.raises(TransitionRefused, match="exists already"):
        backups.back_up(world.store, path)


def verdicts(world) -> dict[str, bool]:
    return {one["key_id"]: one["may_disable"] for one in usage.usage(world.store)}


def test_usage_tells_what_may_be_disabled(world, path):
    assert verdicts(world)[PRIMARY] is False
    backups.back_up(world.store, path)
    rolling.roll_root(world.store, world.rooms, "primary", key_id=key_id(2))
    entry = next(one for one in usage.usage(world.store) if one["key_id"] == PRIMARY)
    assert entry["may_disable"] is False
    assert path in entry["why"]
    assert entry["retired"]
    assert verdicts(world)[key_id(2)] is False
    os.unlink(path)
    entry = next(one for one in usage.usage(world.store) if one["key_id"] == PRIMARY)
    assert entry["may_disable"] is True
    assert "disable it before you delete it" in entry["why"]


def test_a_service_key_may_be_needed_by_other_stores(world):
    entry = next(one for one in usage.usage(world.store) if one["slot"] == "service")
    assert entry["may_disable"] is False
    assert "rewrap every store" in entry["why"]


def test_a_service_managed_store_shows_its_policy_too(place):
    world = World(place, 2)
    (shown,) = showing.policies(world.store)
    assert (shown["state"], shown["state_number"], shown["progress"]) == ("Unregistered", 0, 1.0)
    assert list(shown["keys"]) == ["service"]
    site = showing.one_site(world.store, world.section.sites[0].site_id[:8])
    assert (site["state"], site["progress"]) == ("Unregistered", 1.0)


def test_policies_and_their_sites(world):
    assigning.create_policy(world.store, world.rooms, "second")
    with pytest.raises(TransitionRefused, match="already"):
        assigning.create_policy(world.store, world.rooms, "second")
    with pytest.raises(TransitionRefused, match="no name for a policy"):
        assigning.create_policy(world.store, world.rooms, "two words")
    site = world.section.sites[1].site_id
    outcome = assigning.assign(world.store, world.rooms, site, "second")
    assert outcome.facts["site_id"] == site
    world.check()
    shown = showing.one_policy(world.store, "second")
    assert [one["id"] for one in shown["sites"]] == [site]
    assert showing.one_site(world.store, site)["policy"] == "second"
    with pytest.raises(TransitionRefused, match="name one with --policy"):
        register.offboard(world.store, world.rooms)
    with pytest.raises(TransitionRefused, match="is in policy second"):
        assigning.assign(world.store, world.rooms, site, "second")
    register.register(
        world.store,
        world.rooms,
        primary=key_id(3, vault="five"),
        secondary=key_id(3, vault="six"),
        policy="second",
    )
    world.check()
    assigning.assign(world.store, world.rooms, site, "default")
    world.check()
    assert showing.one_policy(world.store, "second")["site_count"] == 0
