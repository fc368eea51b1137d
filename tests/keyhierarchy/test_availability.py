"""The availability key: the contract of every root key, its layers, its destruction."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from keyhierarchy.errors import (
    KeystoreInvalid,
    KeystoreMissing,
    RootKeyMissing,
    TransitionRefused,
    UnsafePermissions,
    WrappedKeyInvalid,
)
from keyhierarchy.lifecycle.production import HostRooms, default_availability_dir
from keyhierarchy.roots.availability import AvailabilityRoot, AvailabilityStore
from tests.root_contract import RootKeyContract

POLICY, OTHER = "1" * 32, "2" * 32


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One store for all tests that change nothing: RSA keys take a while."""
    store = AvailabilityStore(str(tmp_path_factory.mktemp("availability") / "store"))
    return store, store.create(POLICY)


@pytest.fixture
def store(tmp_path) -> AvailabilityStore:
    return AvailabilityStore(str(tmp_path / "availability"))


class TestAvailabilityRoot(RootKeyContract):
    @pytest.fixture
    def root(self, made):
        return made[1]

    @pytest.fixture
    def other_policy_root(self, made):
        store, root = made
        return AvailabilityRoot(store, OTHER, root.key_id)


def test_the_private_key_is_nowhere_in_the_clear(made):
    store, root = made
    private = store.private_key(store.read(root.key_id.removeprefix("availability:")))
    secret = private.private_numbers().d.to_bytes(256)
    for name in os.listdir(store.folder):
        path = os.path.join(store.folder, name)
        with open(path, "rb") as file:
            assert secret[:32] not in file.read()
        assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(store.folder).st_mode & 0o777 == 0o700
    assert "PrivateKey" not in repr(store) + repr(root)


def test_its_layers_have_the_documented_files(made):
    store, root = made
    name = root.key_id.removeprefix("availability:")
    assert set(os.listdir(store.folder)) == {
        "certificate.pem",
        "certificate.key",
        "secret-store.json",
        f"{name}.key",
        "lock",
    }


@pytest.mark.parametrize("field", ["public", "nonce", "encrypted", "mac", "policy_id"])
def test_a_changed_file_is_refused(store, field):
    root = store.create(POLICY)
    path = os.path.join(store.folder, root.key_id.removeprefix("availability:") + ".key")
    with open(path) as file:
        document = json.load(file)
    value = document[field]
    document[field] = ("0" if value[0] != "0" else "1") + value[1:]
    with open(path, "w") as file:
        json.dump(document, file)
    wrapped = bytes(256)
    with pytest.raises((KeystoreInvalid, WrappedKeyInvalid)):
        root.unwrap(wrapped)


def test_each_layer_is_needed(store):
    root = store.create(POLICY)
    wrapped = root.wrap(bytes(range(32)))
    for name in ("certificate.key", "secret-store.json"):
        path = os.path.join(store.folder, name)
        os.rename(path, path + ".away")
        with pytest.raises(KeystoreMissing):
            root.unwrap(wrapped)
        os.rename(path + ".away", path)
    assert root.unwrap(wrapped) == bytes(range(32))


def test_keys_are_listed_and_destroyed_for_one_policy(store):
    first, second, other = store.create(POLICY), store.create(POLICY), store.create(OTHER)
    assert [key.key_id for key in store.keys(POLICY)] == [first.key_id, second.key_id]
    wrapped = other.wrap(bytes(32))
    assert sorted(store.destroy(POLICY)) == sorted([first.key_id, second.key_id])
    assert store.keys(POLICY) == []
    with pytest.raises(RootKeyMissing, match="availability"):
        first.wrap(bytes(32))
    assert other.unwrap(wrapped) == bytes(32)


def test_others_may_not_look_in(store):
    root = store.create(POLICY)
    os.chmod(store.folder, 0o710)  # noqa: S103 - what must be refused
    with pytest.raises(UnsafePermissions):
        root.wrap(bytes(32))


def test_an_empty_store_has_no_keys(store):
    assert store.keys(POLICY) == []
    assert store.destroy(POLICY) == []


def test_it_lies_neither_in_the_store_nor_where_mounts_look(place):
    place.create()
    state = place.state
    with pytest.raises(TransitionRefused, match="mounts read"):
        HostRooms(state, os.path.join(state, "availability"), place.store)
    with pytest.raises(UnsafePermissions):
        HostRooms(state, os.path.join(place.store, "x"), place.store)
    beside = default_availability_dir(state)
    assert beside == state + "-availability"
    HostRooms(state, beside, place.store)


def test_what_a_mount_imports_cannot_reach_it():
    check = (
        "import sys, keyhierarchy.hierarchy, keyhierarchy.customerkeys\n"
        "bad = [m for m in sys.modules if 'availability' in m or 'lifecycle' in m]\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
