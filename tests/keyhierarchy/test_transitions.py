"""Every state and every verb: the table, HIERARCHY.md, and what the verbs really do."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from keyhierarchy import keystore as keystores
from keyhierarchy.errors import TransitionRefused
from keyhierarchy.keystore import Mark
from keyhierarchy.lifecycle import assigning, marks, purging, register, rolling, session
from keyhierarchy.policy import Operation, PolicyState
from keyhierarchy.transitions import REFUSALS, TABLE, Move, Verb, move
from tests.keyhierarchy.lifecycle_fakes import PRIMARY, SECONDARY, World, key_id
from tests.keyhierarchy.test_spec import section

NOW = "2026-11-21T21:28:00.123Z"
PAIRS = [(state, verb) for state in PolicyState for verb in Verb]
BEYOND = {PolicyState.Revoked, PolicyState.PurgeRequested}
RUNNING = {
    PolicyState.Registering: "register",
    PolicyState.Rolling: "roll-tik",
    PolicyState.Recovering: "restore",
    PolicyState.Offboarding: "offboard",
}


def test_every_pair_is_in_the_table():
    assert set(TABLE) == set(PAIRS)
    for cell in TABLE.values():
        assert isinstance(cell, Move) or cell in REFUSALS


def test_the_document_has_the_same_table():
    specified = {}
    text = section("8.2 The table")
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    states = [PolicyState[name] for name in rows[0][1:]]
    assert states == list(PolicyState)
    for row in rows[2:]:
        for state, cell in zip(states, row[1:], strict=True):
            specified[state, Verb(row[0].strip("`"))] = cell
    assert specified == {
        pair: f"no: {cell}" if isinstance(cell, str) else str(cell) for pair, cell in TABLE.items()
    }
    for letter, reason in REFUSALS.items():
        assert f"- {letter}: {reason}" in text.replace("\n  ", " "), letter


@pytest.mark.parametrize(("state", "verb"), PAIRS)
def test_a_refusal_says_why_and_a_move_where(state, verb):
    cell = TABLE[state, verb]
    if isinstance(cell, Move):
        assert move(state, verb, named="default (1)") == cell
    else:
        with pytest.raises(TransitionRefused) as refused:
            move(state, verb, named="default (1)")
        assert REFUSALS[cell] in str(refused.value)
        assert state.name in str(refused.value)
        assert "nothing was changed" in str(refused.value)


def run(verb: Verb, world: World):
    store, rooms = world.store, world.rooms
    pair = {"primary": PRIMARY, "secondary": SECONDARY}
    site = world.section.sites[0].site_id
    calls = {
        Verb.REGISTER: lambda: register.register(store, rooms, **pair),
        Verb.ROLL_ROOT: lambda: rolling.roll_root(store, rooms, "primary", key_id=key_id(2)),
        Verb.ROLL_TIK: lambda: rolling.roll_tik(store, rooms),
        Verb.ROLL_SITE_KEY: lambda: rolling.roll_site_key(store, rooms, site),
        Verb.ASSIGN: lambda: assigning.assign(store, rooms, site, "other"),
        Verb.RESTORE: lambda: register.restore(store, rooms, **pair, reason="x"),
        Verb.REVOKE: lambda: marks.revoke(store, rooms, reason="x"),
        Verb.UNDO_REVOKE: lambda: marks.undo_revoke(store, rooms),
        Verb.OFFBOARD: lambda: register.offboard(store, rooms),
        Verb.PURGE_REQUEST: lambda: purging.request(
            store, rooms, reason="x", contact="c", approver="other"
        ),
        Verb.PURGE_APPROVE: lambda: purging.approve(store, rooms),
        Verb.PURGE_EXECUTE: lambda: purging.execute(store, rooms),
        Verb.PURGE_CANCEL: lambda: purging.cancel(store, rooms),
    }
    return calls[verb]()


def put_in_state(world: World, state: PolicyState) -> None:
    """Write the state as it would stand there; what is refused by state never looks further."""
    keystore = world.keystore
    one = keystore.sections[0]
    policy = one.policy
    if state in BEYOND:
        one = replace(one, mark=Mark(state=state, since=NOW))
    else:
        policy = replace(policy, state=state)
        if state in RUNNING:
            operation = Operation(verb=RUNNING[state], started=NOW, after=PolicyState.Registered)
            policy = replace(policy, operation=operation)
        one = replace(one, policy=policy)
    changed = replace(keystore, sections=(one, *keystore.sections[1:]))
    keystores.store(world.place.control, changed)


@pytest.mark.parametrize(
    ("state", "verb"), [pair for pair in PAIRS if isinstance(TABLE[pair], str)]
)
def test_the_verb_itself_refuses_and_changes_nothing(place, state, verb):
    world = World(place, 1)
    if verb is Verb.ASSIGN:
        assigning.create_policy(world.store, world.rooms, "other")
    put_in_state(world, state)
    before = world.bytes()
    with pytest.raises(TransitionRefused) as refused:
        run(verb, world)
    assert REFUSALS[TABLE[state, verb]] in str(refused.value)
    assert world.bytes() == before
    assert session.load(world.store) == world.keystore
