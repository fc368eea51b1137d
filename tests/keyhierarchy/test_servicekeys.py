"""Work on service keys: rollover, and moving a store to the new one."""

from __future__ import annotations

import os

import pytest

from keyhierarchy import durable, servicekeys
from keyhierarchy import keystore as keystores
from keyhierarchy.errors import (
    AnchorMismatch,
    KeystoreBusy,
    KeystoreInvalid,
    RootKeyMissing,
    StorageUnavailable,
    TransitionRefused,
)


def rewrap(place):
    return servicekeys.rewrap_store(place.control, place.state, place.store_id)


def key_ids(place) -> list[str]:
    policy = keystores.load(place.control, place.store_id).sections[0].policy
    return [wrap.key_id for tik in policy.tik_generations for wrap in tik.wraps]


def test_the_first_key_and_rollovers_are_in_the_log_of_the_service_keys(made):
    new, old = servicekeys.roll_service_key(made.state)
    log = servicekeys.service_key_log(made.state)
    told = [(record.event, record.outcome, record.key_id) for record in log.records()]
    assert told == [
        ("service-key.create", "started", None),
        ("service-key.create", "ok", old.key_id),
        ("service-key.roll", "started", old.key_id),
        ("service-key.roll", "ok", new.key_id),
    ]
    assert log.verify().count == 4
    servicekeys.ensure_service_key(made.state)
    assert log.verify().count == 4


def test_a_rollover_without_keys_makes_none(place):
    with pytest.raises(RootKeyMissing):
        servicekeys.roll_service_key(place.state)
    assert not os.path.exists(place.state)


def test_rewrap_moves_the_store_and_then_has_nothing_to_do(made):
    (before,) = key_ids(made)
    metadata_key = made.open().lease(made.site_id).metadata_key
    assert rewrap(made) == []
    new, old = servicekeys.roll_service_key(made.state)
    assert key_ids(made) == [before] == [old.key_id]
    (step,) = rewrap(made)
    assert (step.old_key_id, step.new_key_id, step.generation) == (old.key_id, new.key_id, 1)
    assert key_ids(made) == [new.key_id]
    written = made.keystore.read_bytes()
    assert rewrap(made) == []
    assert made.keystore.read_bytes() == written
    assert "tik.rewrap started" in made.events()
    assert made.events()[-1] == "tik.rewrap ok"
    # The old key is not needed for this store any more.
    os.unlink(made.service_keys / f"{old.id}.key")
    assert made.open().lease(made.site_id).metadata_key == metadata_key


def test_rewrap_without_the_old_key_changes_nothing(made):
    _, old = servicekeys.roll_service_key(made.state)
    os.unlink(made.service_keys / f"{old.id}.key")
    before = made.keystore.read_bytes()
    with pytest.raises(RootKeyMissing, match=old.id):
        rewrap(made)
    assert made.keystore.read_bytes() == before


def test_rewrap_of_a_forged_keystore_changes_nothing(made):
    servicekeys.roll_service_key(made.state)
    document = made.document()
    document["sections"][0]["policy"]["name"] = "forged"
    made.write(document)
    before = made.keystore.read_bytes()
    with pytest.raises(KeystoreInvalid, match="seal"):
        rewrap(made)
    assert made.keystore.read_bytes() == before


def test_rewrap_of_a_rolled_back_keystore_is_refused(made):
    old = made.keystore.read_bytes()
    servicekeys.roll_service_key(made.state)
    rewrap(made)
    made.keystore.write_bytes(old)
    with pytest.raises(AnchorMismatch, match="rolled back"):
        rewrap(made)


def test_rewrap_of_a_store_this_host_does_not_know_is_refused(made, tmp_path):
    with pytest.raises(TransitionRefused, match="never opened"):
        servicekeys.rewrap_store(made.control, str(tmp_path / "other"), made.store_id)


def test_one_rewrap_at_a_time(made):
    with keystores.exclusive(made.control), pytest.raises(KeystoreBusy):
        rewrap(made)


@pytest.mark.parametrize("step", range(1, 6))
def test_a_failure_at_any_write_can_be_repaired_by_repeating(made, monkeypatch, step):
    servicekeys.roll_service_key(made.state)
    real, count = durable.replace_document, 0

    def fails(path, content):
        nonlocal count
        count += 1
        if count == step:
            raise StorageUnavailable("disk full", place=path)
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "replace_document", fails)
        if step <= 4:
            with pytest.raises(StorageUnavailable):
                rewrap(made)
        else:
            rewrap(made)
    assert made.open().lease(made.site_id).valid
    rewrap(made)
    assert key_ids(made) == [servicekeys.service_keys(made.state).current().key_id]
    assert made.open().lease(made.site_id).valid
