"""The policy as a value: what it refuses, and what its state forbids."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhierarchy.errors import PolicyPurged, RootKeyRefused
from keyhierarchy.policy import (
    DataEncryptionPolicy,
    PolicyState,
    TikGeneration,
    TikWrap,
    default_policy,
    require_usable,
    with_wrap,
)

CREATED = "2026-11-21T21:28:00.123Z"
ID = "0123456789abcdef" * 2


def wrap(slot="service", key_id="service:1", wrapped=bytes(64)) -> TikWrap:
    algorithm = "KBKDF-SHA256+AES-256-SIV" if slot == "service" else "RSA-OAEP-256"
    return TikWrap(slot=slot, key_id=key_id, algorithm=algorithm, wrapped=wrapped, created=CREATED)


def policy(**changes) -> DataEncryptionPolicy:
    made = default_policy(ID, created=CREATED, fingerprint=bytes(32), wrap=wrap())
    return msgspec.structs.replace(made, **changes)


def parsed(value: DataEncryptionPolicy, **changes) -> DataEncryptionPolicy:
    document = msgspec.to_builtins(value) | changes
    return msgspec.json.decode(msgspec.json.encode(document), type=DataEncryptionPolicy)


def test_the_states_have_microsofts_names_and_numbers_and_four_more():
    assert [(state.name, int(state)) for state in PolicyState] == [
        ("Unregistered", 0),
        ("Registering", 1),
        ("Registered", 2),
        ("Rolling", 3),
        ("Recovering", 4),
        ("Revoked", 5),
        ("Offboarding", 6),
        ("PurgeRequested", 7),
        ("Purged", 8),
    ]


def test_the_default_policy_is_service_managed():
    made = policy()
    assert made.state is PolicyState.Unregistered
    assert made.name == "default"
    assert made.current_tik.generation == 1
    assert [one.slot for one in made.current_tik.wraps] == ["service"]
    assert parsed(made) == made


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ID[:-1]),
        ("id", ID.upper()),
        ("id", ID + "\n"),
        ("name", ""),
        ("name", "two words"),
        ("name", "-option"),
        ("name", "x" * 65),
        ("name", "line\n"),
        ("state", 9),
        ("state", "Unregistered"),
        ("created", "2026-11-21 21:28:00"),
        ("tik_generations", []),
        ("unknown", 1),
    ],
)
def test_a_field_out_of_its_range_is_refused(field, value):
    with pytest.raises(msgspec.ValidationError):
        parsed(policy(), **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slot", "tertiary"),
        ("algorithm", "RSA1_5"),
        ("key_id", ""),
        ("key_id", 'a"b'),
        ("key_id", "a\\b"),
        ("key_id", "a b"),
        ("key_id", "\x1b[2J"),
        ("key_id", "ü"),
        ("wrapped", "AAAA"),
    ],
)
def test_a_wrap_out_of_its_range_is_refused(field, value):
    document = msgspec.to_builtins(policy())
    document["tik_generations"][0]["wraps"][0][field] = value
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document, DataEncryptionPolicy)


@pytest.mark.parametrize("numbers", [[2, 1], [1, 1], [1, 3, 2]])
def test_generations_out_of_order_are_refused(numbers):
    generations = [
        TikGeneration(
            generation=number,
            fingerprint=bytes(32),
            endorsement=b"" if number == 1 else bytes(32),
            wraps=(),
        )
        for number in numbers
    ]
    with pytest.raises(msgspec.ValidationError, match="rising order"):
        parsed(policy(), tik_generations=msgspec.to_builtins(generations))


@pytest.mark.parametrize(("generation", "length"), [(1, 32), (2, 0), (2, 31)])
def test_an_endorsement_stands_where_it_belongs(generation, length):
    with pytest.raises(ValueError, match="endorsement"):
        TikGeneration(
            generation=generation, fingerprint=bytes(32), endorsement=bytes(length), wraps=()
        )


def test_with_wrap_replaces_the_slot_and_keeps_the_others():
    first = TikGeneration(generation=1, fingerprint=bytes(32), wraps=(wrap(), wrap("primary")))
    second = TikGeneration(
        generation=2, fingerprint=bytes(32), endorsement=bytes(32), wraps=(wrap(),)
    )
    new = wrap(key_id="service:2")
    made = with_wrap(policy(tik_generations=(first, second)), 1, new)
    assert made.tik(1).wraps == (wrap("primary"), new)
    assert made.tik(2) == second
    assert made.current_tik == second
    assert made.tik(3) is None


@given(st.sampled_from(PolicyState))
def test_only_some_states_let_keys_be_opened(state):
    refusals = {
        PolicyState.Revoked: RootKeyRefused,
        PolicyState.PurgeRequested: PolicyPurged,
        PolicyState.Purged: PolicyPurged,
    }
    if state in refusals:
        with pytest.raises(refusals[state], match=ID):
            require_usable(policy(state=state))
    else:
        require_usable(policy(state=state))
