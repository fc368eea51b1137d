"""`create_store_keys`: fresh keys, in the right order, or nothing."""

from __future__ import annotations

import base64
import errno
import os

import pytest
from msgspec.structs import replace

from keyhierarchy import creation, durable
from keyhierarchy import keystore as keystores
from keyhierarchy.errors import (
    AnchorMismatch,
    KeystoreBusy,
    KeystoreInvalid,
    KeystoreMissing,
    StorageUnavailable,
    TransitionRefused,
    UnsafePermissions,
    WrappedKeyInvalid,
)
from keyhierarchy.roots.service_managed import ServiceManagedRoot
from keyhierarchy.servicekeys import service_keys


def test_it_makes_a_service_managed_policy_with_one_site(made):
    keystore = keystores.load(made.control, made.store_id)
    (section,) = keystore.sections
    (site,) = section.sites
    assert site.site_id == made.site_id.hex()
    assert site.root_directory_id == made.root_directory_id.hex()
    assert section.policy.state == 0
    (wrap,) = section.policy.current_tik.wraps
    assert wrap.key_id == service_keys(made.state).current().key_id
    assert made.events() == ["policy.create started", "policy.create ok", "site.create ok"]


def test_two_stores_have_nothing_equal(place, tmp_path):
    place.create()
    other = type(place)(tmp_path / "other")
    os.makedirs(other.control)
    creation.create_store_keys(other.control, place.state, other.store_id, os.urandom(16), "teams")
    sections = [keystores.load(one.control, one.store_id).sections[0] for one in (place, other)]
    ours, theirs = ({v for v in leaves(section) if len(v) >= 16} for section in sections)
    assert len(ours) >= 7
    shared = ours & theirs
    assert {v for v in shared if isinstance(v, bytes)} == set()
    assert sections[1].sites[0].workload == "teams"
    assert len(service_keys(place.state).masters()) == 1


def leaves(value):
    if isinstance(value, bytes | str):
        yield value
    for field in getattr(value, "__struct_fields__", ()):
        yield from leaves(getattr(value, field))
    if isinstance(value, tuple):
        for item in value:
            yield from leaves(item)


def test_no_key_is_in_the_store_or_in_the_log(made, monkeypatch):
    with open(made.keystore, "rb") as keystore, open(made.host / "audit.log", "rb") as log:
        written = keystore.read() + log.read()
    master = service_keys(made.state).current()
    lease = made.open().lease(made.site_id)
    for key in (master.key, lease.metadata_key):
        for form in (key, key.hex().encode(), base64.b64encode(key)):
            assert form not in written


def test_a_second_time_is_refused_and_changes_nothing(made):
    before = made.keystore.read_bytes()
    with pytest.raises(TransitionRefused, match="exists already"):
        made.create()
    assert made.keystore.read_bytes() == before


def test_a_state_folder_in_the_store_is_refused_before_anything_is_made(place):
    inside = os.path.join(place.store, "state")
    with pytest.raises(UnsafePermissions, match="inside the store"):
        creation.create_store_keys(place.control, inside, place.store_id, bytes(16))
    assert not os.path.exists(inside)
    assert os.listdir(place.control) == ["store.json"]


def test_a_missing_control_folder_is_told(place):
    with pytest.raises(KeystoreMissing):
        creation.create_store_keys(place.control + "x", place.state, place.store_id, bytes(16))


def test_a_store_that_this_host_knows_is_not_made_again(made):
    made.keystore.unlink()
    with pytest.raises(AnchorMismatch, match="knows store"):
        made.create()
    assert not made.keystore.exists()


def test_it_waits_for_nobody(place):
    with keystores.exclusive(place.control), pytest.raises(KeystoreBusy):
        place.create()


def test_an_unsafe_state_folder_is_refused(place):
    os.mkdir(place.state)
    os.chmod(place.state, 0o740)
    with pytest.raises(UnsafePermissions, match="chmod 0700"):
        place.create()
    assert not place.keystore.exists()


@pytest.mark.parametrize("step", range(1, 9))
def test_a_failure_at_any_write_leaves_no_keystore_or_a_good_one(place, monkeypatch, step):
    real, count = durable.replace_document, 0

    def fails(path, content):
        nonlocal count
        count += 1
        if count == step:
            raise StorageUnavailable("disk full", place=path)
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "replace_document", fails)
        failed = False
        try:
            place.create()
        except StorageUnavailable:
            failed = True
    assert failed == (step <= count)
    if place.keystore.exists():
        site = keystores.load(place.control, place.store_id).sections[0].sites[0]
        assert place.open().lease(bytes.fromhex(site.site_id)).valid
    else:
        assert "policy.create ok" not in (place.events() if place.host.exists() else [])


def test_a_keystore_that_cannot_be_written_is_told(place, monkeypatch):
    real = os.rename

    def fails(source, target, **options):
        if target == "keystore.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target, **options)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(StorageUnavailable, match=r"keystore\.json.*No space"):
        place.create()
    assert "policy.create started" in place.events()
    assert "policy.create ok" not in place.events()


def test_a_root_that_does_not_open_what_it_wraps_is_found_before_it_is_used(place, monkeypatch):
    monkeypatch.setattr(ServiceManagedRoot, "unwrap", lambda _self, _wrapped: bytes(32))
    with pytest.raises(WrappedKeyInvalid, match="just wrapped"):
        place.create()
    assert not place.keystore.exists()


@pytest.mark.parametrize("length", [0, 15, 17])
def test_ids_of_a_wrong_length_are_a_mistake_of_the_caller(place, length):
    with pytest.raises(ValueError, match="16 bytes"):
        creation.create_store_keys(place.control, place.state, place.store_id, b"x" * length)
    with pytest.raises(ValueError, match="16 bytes"):
        creation.create_store_keys(place.control, place.state, b"x" * length, bytes(16))
    assert not place.keystore.exists()
    assert not os.path.exists(place.state)


def test_a_keystore_that_could_not_be_read_again_is_not_written(made):
    before = made.keystore.read_bytes()
    keystore = keystores.load(made.control, made.store_id)
    with pytest.raises(KeystoreInvalid):
        keystores.store(made.control, replace(keystore, store_id="short"))
    assert made.keystore.read_bytes() == before
