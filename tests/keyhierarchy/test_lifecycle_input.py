"""Bad input: the clear refusal, and nothing changes."""

from __future__ import annotations

import pytest

from keyhierarchy.errors import (
    KeyHierarchyError,
    RootKeyRefused,
    RootKeyUnavailable,
    TransitionRefused,
    ValidationFailed,
)
from keyhierarchy.lifecycle import register, rolling, session, validation
from tests.keyhierarchy.lifecycle_fakes import PRIMARY, SECONDARY, World, key_id


@pytest.fixture
def world(place) -> World:
    return World(place, 1)


def refused(world, kind, text, *, primary=PRIMARY, secondary=SECONDARY):
    before = world.bytes()
    with pytest.raises(kind, match=text):
        register.register(world.store, world.rooms, primary=primary, secondary=secondary)
    assert world.bytes() == before
    assert world.rooms.availability_keys == {}
    assert world.rooms.allowed == []


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("", "two customer keys are needed"),
        ("not a url", "no id of a vault key"),
        ("http://one.vault.test/keys/root/" + "0" * 32, "https"),
        ("https://one.vault.test/secrets/root/" + "0" * 32, "/keys/"),
        ("https://one.vault.test/keys/root", "no version"),
        ("https://one.vault.test/keys/root/latest", "version"),
    ],
)
def test_a_key_id_that_is_none(world, key, text):
    refused(world, KeyHierarchyError, text, primary=key)
    refused(world, KeyHierarchyError, text, secondary=key)


def test_one_vault_twice(world):
    refused(world, ValidationFailed, "two-vaults", secondary=key_id(7, vault="one"))
    refused(world, ValidationFailed, "two-keys", secondary=PRIMARY)


FAR = 4102444800


@pytest.mark.parametrize(
    ("odd", "rule"),
    [
        ({"key_type": "EC"}, "key-type"),
        ({"key_type": "oct"}, "key-type"),
        ({"size": 1024}, "key-size"),
        ({"operations": ("unwrapKey",)}, "key-operations.*wrapKey"),
        ({"operations": ("sign", "wrapKey")}, "key-operations.*unwrapKey"),
        ({"enabled": False}, "enabled"),
        ({"not_before": FAR}, "not-before"),
        ({"expires": FAR}, "no-expiry"),
        ({"recovery_level": "Purgeable"}, "recovery-level"),
        ({"recovery_level": "Recoverable+Purgeable"}, "recovery-level"),
    ],
)
@pytest.mark.parametrize("slot", ["primary", "secondary"])
def test_a_key_that_breaks_a_rule(world, odd, rule, slot):
    world.rooms.odd[PRIMARY if slot == "primary" else SECONDARY] = odd
    refused(world, ValidationFailed, rule)


def test_a_rule_can_be_accepted_by_name(world):
    world.rooms.odd[PRIMARY] = {"recovery_level": "Purgeable"}
    register.register(
        world.store,
        world.rooms,
        primary=PRIMARY,
        secondary=SECONDARY,
        accept=["recovery-level"],
    )
    world.check()


@pytest.mark.parametrize("error", [RootKeyRefused("denied"), RootKeyUnavailable("down")])
def test_a_vault_that_does_not_let_us(world, error):
    world.rooms.trouble(SECONDARY, error=error)
    refused(world, ValidationFailed, "permission-get")


def test_the_exception_of_a_never_ending_date(world):
    world.rooms.odd[PRIMARY] = {"expires": 253402214400}
    register.register(world.store, world.rooms, primary=PRIMARY, secondary=SECONDARY)


def test_warnings_do_not_refuse(world):
    odd = {"hardware": False, "recovery_level": "Recoverable", "recoverable_days": 7}
    world.rooms.odd[PRIMARY] = odd
    findings = validation.validate(
        world.rooms,
        world.policy,
        {"primary": PRIMARY, "secondary": SECONDARY},
        world.keystore,
    )
    warned = {one.rule for one in findings if one.result == "warn"}
    assert warned == {"hardware", "recovery-level", "soft-delete-days"}
    for one in findings:
        assert bool(one.remedy) == (one.result != "ok"), one.rule
    validation.require_passed(findings, [])
    assert {one.rule for one in findings} >= {"round-trip", "two-vaults", "own-pair", "key-id"}


def test_a_roll_names_a_slot_and_a_key(world):
    register.register(world.store, world.rooms, primary=PRIMARY, secondary=SECONDARY)
    with pytest.raises(TransitionRefused, match="id of the new key"):
        rolling.roll_root(world.store, world.rooms, "primary")
    with pytest.raises(TransitionRefused, match="no site begins"):
        rolling.roll_site_key(world.store, world.rooms, "ffff")


def test_a_policy_that_is_not_there(world):
    with pytest.raises(TransitionRefused, match="no policy 'nobody'"):
        register.offboard(world.store, world.rooms, policy="nobody")


def test_a_host_that_does_not_know_the_store(world, tmp_path):
    other = session.Store(world.place.control, str(tmp_path / "other"), world.place.store_id)
    with pytest.raises(TransitionRefused, match="never opened"):
        register.offboard(other, world.rooms)
