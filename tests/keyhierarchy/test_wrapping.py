"""Wraps open for what they were made for, and for nothing else."""

from __future__ import annotations

import itertools
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhierarchy import wrapping
from keyhierarchy.errors import WrappedKeyInvalid
from keyhierarchy.wrapping import FileKeyWrapper

keys = st.binary(min_size=32, max_size=32)
ids = st.binary(min_size=16, max_size=16)
generations = st.integers(1, 2**32 - 1)

KEY, PARENT = bytes(range(32)), bytes(range(100, 132))
ONE, TWO, THREE = b"1" * 16, b"2" * 16, b"3" * 16

# For each wrap: how to wrap, how to open, and what both are bound to.
KINDS = {
    "site key": (
        wrapping.wrap_site_key,
        wrapping.unwrap_site_key,
        {"policy_id": ONE, "tik_generation": 1, "site_id": TWO, "generation": 2},
    ),
    "earlier tenant intermediate key": (
        wrapping.wrap_tik,
        wrapping.unwrap_tik,
        {"policy_id": TWO, "generation": 2},
    ),
    "metadata key": (
        wrapping.wrap_metadata_key,
        wrapping.unwrap_metadata_key,
        {"site_id": TWO, "generation": 2},
    ),
    "file key": (
        wrapping.wrap_file_key,
        wrapping.unwrap_file_key,
        {"file_id": THREE, "site_id": TWO, "generation": 2},
    ),
}
BINDINGS = [(kind, name) for kind, (_, _, bound) in KINDS.items() for name in bound]


@given(st.tuples(keys, keys), st.tuples(ids, ids), st.tuples(generations, generations))
def test_site_key_round_trip(two_keys, two_ids, two_generations):
    parent, key = two_keys
    bound = {
        "policy_id": two_ids[0],
        "tik_generation": two_generations[0],
        "site_id": two_ids[1],
        "generation": two_generations[1],
    }
    wrapped = wrapping.wrap_site_key(parent, key, **bound)
    assert len(wrapped) == wrapping.WRAPPED_LENGTH
    assert wrapping.unwrap_site_key(parent, wrapped, **bound) == key


@given(parent=keys, key=keys, file=ids, site=ids, generation=generations)
def test_file_key_round_trip(parent, key, file, site, generation):
    bound = {"file_id": file, "site_id": site, "generation": generation}
    wrapped = wrapping.wrap_file_key(parent, key, **bound)
    assert len(wrapped) == wrapping.WRAPPED_LENGTH
    assert wrapping.unwrap_file_key(parent, wrapped, **bound) == key


@given(parent=keys, key=keys, site=ids, generation=generations)
def test_metadata_key_round_trip(parent, key, site, generation):
    bound = {"site_id": site, "generation": generation}
    wrapped = wrapping.wrap_metadata_key(parent, key, **bound)
    assert len(wrapped) == wrapping.WRAPPED_LENGTH
    assert wrapping.unwrap_metadata_key(parent, wrapped, **bound) == key


@pytest.mark.parametrize(("kind", "name"), BINDINGS)
def test_a_wrap_is_bound_to_each_of_its_circumstances(kind, name):
    wrap, unwrap, bound = KINDS[kind]
    other = bound[name] + 1 if isinstance(bound[name], int) else bytes(16)
    wrapped = wrap(PARENT, KEY, **bound)
    with pytest.raises(WrappedKeyInvalid):
        unwrap(PARENT, wrapped, **{**bound, name: other})


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_and_every_wrong_length_is_refused(kind):
    wrap, unwrap, bound = KINDS[kind]
    wrapped = wrap(PARENT, KEY, **bound)
    for bit in range(len(wrapped) * 8):
        changed = bytearray(wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WrappedKeyInvalid):
            unwrap(PARENT, bytes(changed), **bound)
    for wrong in (b"", wrapped[:-1], wrapped + b"\0", wrapped[:16]):
        with pytest.raises(WrappedKeyInvalid):
            unwrap(PARENT, wrong, **bound)


@pytest.mark.parametrize("kind", KINDS)
def test_another_parent_does_not_open_it(kind):
    wrap, unwrap, bound = KINDS[kind]
    with pytest.raises(WrappedKeyInvalid) as caught:
        unwrap(KEY, wrap(PARENT, KEY, **bound), **bound)
    told = str(caught.value)
    assert TWO.hex() in told
    assert "backup" in told
    assert KEY.hex() not in told
    assert TWO.hex() in (caught.value.site_id, caught.value.policy_id)
    assert caught.value.generation == 2


def test_a_wrap_for_one_purpose_does_not_open_for_another():
    site_and_generation = {"site_id": TWO, "generation": 2}
    wrapped = wrapping.wrap_metadata_key(PARENT, KEY, **site_and_generation)
    with pytest.raises(WrappedKeyInvalid):
        wrapping.unwrap_file_key(PARENT, wrapped, file_id=THREE, **site_and_generation)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0, 31, 33])
def test_keys_of_a_wrong_length_are_a_mistake_of_the_caller(kind, length):
    wrap, _, bound = KINDS[kind]
    with pytest.raises(ValueError, match="32 bytes"):
        wrap(PARENT, b"k" * length, **bound)
    with pytest.raises(ValueError, match="32 bytes"):
        wrap(b"k" * length, KEY, **bound)


@pytest.mark.parametrize(("kind", "name"), BINDINGS)
def test_ids_and_generations_out_of_range_are_a_mistake_of_the_caller(kind, name):
    wrap, unwrap, bound = KINDS[kind]
    wrongs = [0, -1, 2**32] if isinstance(bound[name], int) else [b"", b"x" * 15, b"x" * 17]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"between|16 bytes"):
            wrap(PARENT, KEY, **{**bound, name: wrong})
        with pytest.raises(ValueError, match=r"between|16 bytes"):
            unwrap(PARENT, bytes(48), **{**bound, name: wrong})


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4))
def test_different_contexts_never_pack_alike(left, right):
    assert (wrapping.pack_context(*left) == wrapping.pack_context(*right)) == (left == right)


def test_every_label_names_one_purpose():
    labels = [value for value in vars(wrapping).values() if isinstance(value, bytes)]
    assert len(labels) == 9
    assert all(label.startswith(b"ckfs/v1/") for label in labels)
    for left, right in itertools.permutations(labels, 2):
        assert left != right


@given(key=keys, other=keys, site=ids, generation=generations)
def test_commitments_and_fingerprints_tell_keys_and_places_apart(key, other, site, generation):
    made = {
        wrapping.site_key_commitment(key, site_id=site, generation=generation),
        wrapping.tik_fingerprint(key, policy_id=site, generation=generation),
        wrapping.endorse_tik(key, policy_id=site, generation=generation, fingerprint=other),
        wrapping.derive_metadata_key(key, site_id=site),
        wrapping.seal_section(key, store_id=site, policy_id=site, canonical=other),
    }
    assert len(made) == 5
    assert {len(value) for value in made} == {32}
    assert key not in made
    if key != other:
        assert wrapping.site_key_commitment(other, site_id=site, generation=generation) not in made


def test_a_fingerprint_to_endorse_has_32_bytes():
    with pytest.raises(ValueError, match="32 bytes"):
        wrapping.endorse_tik(KEY, policy_id=ONE, generation=2, fingerprint=b"short")


def test_a_seal_depends_on_all_it_covers():
    base = {"store_id": ONE, "policy_id": TWO, "canonical": b"{}"}
    seal = wrapping.seal_section(KEY, **base)
    for change in ({"store_id": THREE}, {"policy_id": THREE}, {"canonical": b"{ }"}):
        assert not wrapping.same(seal, wrapping.seal_section(KEY, **{**base, **change}))
    assert not wrapping.same(seal, wrapping.seal_section(PARENT, **base))
    assert wrapping.same(seal, wrapping.seal_section(KEY, **base))


def test_the_wrapper_shows_no_key_and_is_not_pickled():
    wrapper = FileKeyWrapper(KEY, site_id=ONE, generation=4)
    assert KEY.hex() not in repr(wrapper)
    assert "generation 4" in repr(wrapper)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(wrapper)


def test_the_wrapper_and_the_functions_agree():
    key, file_id = os.urandom(32), os.urandom(16)
    wrapper = FileKeyWrapper(PARENT, site_id=ONE, generation=4)
    single = wrapping.wrap_file_key(PARENT, key, file_id=file_id, site_id=ONE, generation=4)
    assert wrapper.wrap(file_id, key) == single
    assert wrapper.unwrap(file_id, single) == key
