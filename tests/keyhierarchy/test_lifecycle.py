"""The verbs of a policy's life, each from beginning to end, on a host whose roots are commanded."""

from __future__ import annotations

import pytest

from keyhierarchy.errors import (
    KeystoreBusy,
    RootKeyRefused,
    RootKeyUnavailable,
    TransitionRefused,
    ValidationFailed,
)
from keyhierarchy.lifecycle import marks, register, rolling, session, showing
from keyhierarchy.policy import PolicyState
from tests.keyhierarchy.lifecycle_fakes import PRIMARY, SECONDARY, World, key_id

PAIR = {"primary": PRIMARY, "secondary": SECONDARY}
GONE = RootKeyUnavailable("the vault is gone")


@pytest.fixture
def world(place) -> World:
    return World(place)


@pytest.fixture
def registered(world) -> World:
    register.register(world.store, world.rooms, **PAIR)
    world.add_files()
    return world


def slots(world: World) -> list[str]:
    return [wrap.slot for wrap in world.policy.current_tik.wraps]


class TestRegister:
    def test_three_roots_open_the_new_tik_each_alone(self, world):
        outcome = register.register(world.store, world.rooms, **PAIR)
        assert (outcome.state_before, outcome.state_after) == ("Unregistered", "Registered")
        assert slots(world) == ["primary", "secondary", "availability"]
        for slot in slots(world):
            assert world.opens_alone(slot), slot
        world.check()

    def test_the_old_root_opens_nothing_current(self, registered):
        assert not registered.opens_alone("service")
        current = registered.policy.current_tik
        assert current.generation == 2
        wraps = [wrap.slot for tik in registered.policy.tik_generations for wrap in tik.wraps]
        assert "service" not in wraps
        for site in registered.section.sites:
            assert [key.tik_generation for key in site.site_keys] == [2, 2]

    def test_no_copy_of_the_keystore_on_the_way_gives_the_old_root_the_new_tik(self, world):
        copies = []
        watch = session.Watch(step=lambda _: copies.append(world.policy))
        register.register(world.store, world.rooms, **PAIR, watch=watch)
        assert len(copies) >= 4
        for policy in copies:
            assert "service" not in [wrap.slot for wrap in policy.tik(2).wraps]

    def test_new_files_are_under_keys_the_old_root_never_had(self, registered):
        assert {generation for _, generation, *_ in registered.files} == {1, 2}
        registered.check()

    def test_the_old_key_is_told_as_retired(self, registered):
        (old,) = registered.policy.retired
        assert old.slot == "service"

    def test_it_is_in_the_audit_log(self, registered):
        events = registered.place.events()
        for event in ("policy.register started", "availability.create ok", "policy.register ok"):
            assert event in events

    def test_progress_rises_to_one_and_shows_on_the_way(self, world):
        shares, states = [], []

        def look(share):
            shares.append(share)
            states.append(showing.policies(world.store)[0])

        register.register(world.store, world.rooms, **PAIR, watch=session.Watch(progress=look))
        assert shares[0] == 0.0
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        assert states[0]["state"] == "Registering"
        assert isinstance(states[0]["progress"], float)

    def test_a_dry_run_changes_nothing(self, world):
        before = world.bytes()
        outcome = register.register(world.store, world.rooms, **PAIR, dry_run=True)
        assert outcome.dry_run
        assert outcome.state_after == "Registered"
        assert world.bytes() == before
        assert world.rooms.availability_keys == {}

    def test_a_second_registration_is_refused(self, registered):
        before = registered.bytes()
        with pytest.raises(TransitionRefused, match="has customer keys already"):
            register.register(registered.store, registered.rooms, **PAIR)
        assert registered.bytes() == before

    def test_one_verb_at_a_time(self, world):
        with session.one_verb(world.store), pytest.raises(KeystoreBusy):
            register.register(world.store, world.rooms, **PAIR)

    def test_another_host_that_pinned_the_old_tik_follows(self, world):
        anchor = world.place.host / "anchor.json"
        old = anchor.read_bytes()
        register.register(world.store, world.rooms, **PAIR)
        rolling.roll_tik(world.store, world.rooms)
        anchor.write_bytes(old)
        world.check()

    def test_a_site_made_meanwhile_is_not_lost(self, world):
        from keyhierarchy import creation  # noqa: PLC0415

        made = []

        def once(name):
            if not made:
                made.append(
                    creation.create_site(
                        world.place.control,
                        world.place.state,
                        world.place.store_id,
                        bytes(16),
                        "teams",
                        roots=world.rooms.existing,
                    )
                )

        register.register(world.store, world.rooms, **PAIR, watch=session.Watch(step=once))
        assert made[0].hex() in [site.site_id for site in world.section.sites]
        world.check()


class TestRoll:
    def test_primary(self, registered):
        new = key_id(2, vault="one")
        outcome = rolling.roll_root(registered.store, registered.rooms, "primary", key_id=new)
        assert outcome.state_after == "Registered"
        keys = {wrap.slot: wrap.key_id for wrap in registered.policy.current_tik.wraps}
        assert keys["primary"] == new
        assert keys["secondary"] == SECONDARY
        for slot in keys:
            assert registered.opens_alone(slot)
        assert PRIMARY in [old.key_id for old in registered.policy.retired]
        registered.check()

    def test_a_lost_vault_is_replaced_while_the_other_works(self, registered):
        registered.rooms.trouble(PRIMARY, error=GONE)
        new = key_id(1, vault="three")
        rolling.roll_root(registered.store, registered.rooms, "primary", key_id=new)
        registered.check()

    def test_both_wraps_are_there_before_the_old_one_goes(self, registered):
        seen = []
        watch = session.Watch(step=lambda name: seen.append((name, slots(registered))))
        rolling.roll_root(
            registered.store,
            registered.rooms,
            "secondary",
            key_id=key_id(9, vault="two"),
            watch=watch,
        )
        assert [name for name, _ in seen] == ["new-wrap", "new-wraps-proved", "old-wrap-dropped"]
        assert seen[0][1].count("secondary") == 2
        assert seen[2][1].count("secondary") == 1

    def test_availability(self, registered):
        rolling.roll_root(registered.store, registered.rooms, "availability")
        assert slots(registered).count("availability") == 1
        assert registered.opens_alone("availability")
        assert "availability" in [old.slot for old in registered.policy.retired]

    def test_the_tik(self, registered):
        rolling.roll_tik(registered.store, registered.rooms)
        assert registered.policy.current_tik.generation == 3
        assert slots(registered) == ["primary", "secondary", "availability"]
        assert [tik.wraps[0].slot for tik in registered.policy.tik_generations[:-1]] == [
            "successor",
            "successor",
        ]
        registered.check()

    def test_the_tik_of_a_service_managed_policy(self, world):
        outcome = rolling.roll_tik(world.store, world.rooms)
        assert outcome.state_after == "Unregistered"
        world.check()

    def test_a_site_key(self, registered):
        site = registered.section.sites[1]
        rolling.roll_site_key(registered.store, registered.rooms, site.site_id)
        after = registered.section.sites
        assert len(after[1].site_keys) == len(site.site_keys) + 1
        assert len(after[0].site_keys) == len(site.site_keys)
        registered.check()
        registered.add_files()
        registered.check()

    def test_the_same_version_is_refused(self, registered):
        before = registered.bytes()
        with pytest.raises(TransitionRefused, match="protects policy"):
            rolling.roll_root(registered.store, registered.rooms, "primary", key_id=PRIMARY)
        assert registered.bytes() == before

    def test_a_key_in_the_other_vault_is_refused(self, registered):
        before = registered.bytes()
        with pytest.raises(ValidationFailed, match="two-vaults"):
            rolling.roll_root(
                registered.store, registered.rooms, "primary", key_id=key_id(5, vault="two")
            )
        assert registered.bytes() == before


@pytest.mark.parametrize("sites", [1, 60])
def test_rolling_a_root_takes_two_writes_of_the_keystore(place, monkeypatch, sites):
    from keyhierarchy import keystore as keystores  # noqa: PLC0415

    world = World(place, sites)
    register.register(world.store, world.rooms, **PAIR)
    writes = []
    real = keystores.store
    monkeypatch.setattr(keystores, "store", lambda *a: (writes.append(1), real(*a))[1])
    rolling.roll_root(world.store, world.rooms, "primary", key_id=key_id(2))
    assert len(writes) == 2


class TestOffboard:
    def test_back_to_the_service_managed_root(self, registered):
        outcome = register.offboard(registered.store, registered.rooms)
        assert outcome.state_after == "Unregistered"
        assert slots(registered) == ["service"]
        assert not registered.opens_alone("primary", "secondary", "availability")
        registered.rooms.trouble(PRIMARY, SECONDARY, error=GONE)
        registered.check()
        keys = {old.key_id for old in registered.policy.retired}
        assert {PRIMARY, SECONDARY} <= keys

    def test_it_needs_a_working_root(self, registered):
        registered.rooms.trouble(PRIMARY, SECONDARY, error=RootKeyRefused("denied"))
        before = registered.bytes()
        with pytest.raises(RootKeyRefused):
            register.offboard(registered.store, registered.rooms)
        assert registered.bytes() == before

    def test_and_then_register_again(self, registered):
        register.offboard(registered.store, registered.rooms)
        register.register(registered.store, registered.rooms, **PAIR)
        registered.check()


NEW_PAIR = {"primary": key_id(1, vault="three"), "secondary": key_id(1, vault="four")}


class TestRestore:
    def test_both_vaults_lost(self, registered):
        registered.rooms.trouble(PRIMARY, SECONDARY, error=GONE)
        outcome = register.restore(
            registered.store, registered.rooms, **NEW_PAIR, reason="both vaults burnt"
        )
        assert outcome.state_after == "Registered"
        registered.check()
        assert "availability.use ok" in registered.place.events()
        keys = [wrap.key_id for wrap in registered.policy.current_tik.wraps]
        assert keys[:2] == list(NEW_PAIR.values())
        assert keys[2] == "availability:" + f"{2:032x}"

    def test_no_other_verb_ever_asks_the_availability_key_to_open_a_store(self, registered):
        registered.rooms.trouble(PRIMARY, SECONDARY, error=GONE)
        used = registered.rooms.availability_used
        with pytest.raises(RootKeyUnavailable):
            register.offboard(registered.store, registered.rooms)
        with pytest.raises(RootKeyUnavailable):
            rolling.roll_tik(registered.store, registered.rooms)
        assert registered.rooms.availability_used == used

    def test_without_the_availability_key_it_is_refused(self, registered):
        registered.rooms.trouble(PRIMARY, SECONDARY, error=GONE)
        registered.rooms.availability_keys.clear()
        before = registered.bytes()
        from keyhierarchy.errors import RootKeyMissing  # noqa: PLC0415

        with pytest.raises(RootKeyMissing):
            register.restore(registered.store, registered.rooms, **NEW_PAIR, reason="x")
        assert registered.bytes() == before


class TestRevoke:
    def test_revoke_and_undo(self, registered):
        marks.revoke(registered.store, registered.rooms, reason="a laptop was stolen")
        assert registered.section.state is PolicyState.Revoked
        assert registered.policy.id in registered.rooms.revoked
        with pytest.raises(RootKeyRefused, match="revoked"):
            registered.check()
        marks.undo_revoke(registered.store, registered.rooms)
        assert registered.section.state is PolicyState.Registered
        assert registered.rooms.revoked == {}
        registered.check()

    def test_it_needs_no_key(self, registered):
        registered.rooms.trouble(PRIMARY, SECONDARY, error=GONE)
        marks.revoke(registered.store, registered.rooms, reason="now")
        assert registered.section.state is PolicyState.Revoked

    def test_a_change_that_was_cut_short_goes_on_after_it(self, world):
        class Stop(Exception):
            pass

        def stop(name):
            raise Stop

        with pytest.raises(Stop):
            register.register(world.store, world.rooms, **PAIR, watch=session.Watch(step=stop))
        marks.revoke(world.store, world.rooms, reason="x")
        with pytest.raises(TransitionRefused, match="revoked"):
            register.register(world.store, world.rooms, **PAIR)
        marks.undo_revoke(world.store, world.rooms)
        assert world.section.state is PolicyState.Registering
        register.register(world.store, world.rooms, **PAIR)
        world.check()
