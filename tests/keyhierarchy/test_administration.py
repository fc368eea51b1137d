"""What the administrator has set: strict, private, and nothing allowed by default."""

from __future__ import annotations

import json
import os

import pytest

from keyhierarchy import administration
from keyhierarchy.administration import Settings
from keyhierarchy.errors import (
    KeystoreInvalid,
    KeystoreNewer,
    RootKeyNotListed,
    RootKeyRefused,
    UnsafePermissions,
)

POLICY, OTHER = "ab" * 16, "cd" * 16
KEY = "https://kv1.vault.azure.net/keys/k/" + "0" * 32
NEXT = "https://kv1.vault.azure.net/keys/k/" + "1" * 32


@pytest.fixture
def state(tmp_path):
    return str(tmp_path / "state")


def test_without_a_document_nothing_is_allowed_and_settings_have_defaults(state):
    known = administration.load(state)
    assert known.settings == Settings()
    assert (known.settings.hedge_offset_seconds, known.settings.probe_seconds) == (0.25, 60)
    with pytest.raises(RootKeyNotListed, match=r"vault kv1.vault.azure.net") as caught:
        known.check(KEY, policy_id=POLICY, slot="primary")
    assert caught.value.cause == "not-listed"
    assert f"ckfs-keys vault allow --policy {POLICY} --slot primary {KEY}" in str(caught.value)


def test_a_key_is_allowed_for_one_policy_and_slot(state):
    administration.allow(state, KEY, policy_id=POLICY, slot="primary")
    known = administration.load(state)
    known.check(KEY, policy_id=POLICY, slot="primary")
    known.check(KEY.replace("kv1", "KV1"), policy_id=POLICY, slot="primary")
    for key, policy, slot in (
        (KEY, OTHER, "primary"),
        (KEY, POLICY, "secondary"),
        (NEXT, POLICY, "primary"),
    ):
        with pytest.raises(RootKeyNotListed, match="this key"):
            known.check(key, policy_id=policy, slot=slot)
    assert os.stat(administration.path(state)).st_mode & 0o777 == 0o600
    administration.allow(state, KEY, policy_id=POLICY, slot="primary")
    assert len(administration.load(state).keys) == 1
    administration.disallow(state, KEY, policy_id=POLICY, slot="primary")
    assert administration.load(state).keys == ()


def test_a_whole_vault_is_allowed_by_its_host(state):
    administration.allow_host(state, "KV1.vault.azure.net:443")
    known = administration.load(state)
    known.check(NEXT, policy_id=OTHER, slot="secondary")
    with pytest.raises(RootKeyNotListed):
        known.check(KEY.replace("kv1", "kv2"), policy_id=POLICY, slot="primary")
    with pytest.raises(RootKeyNotListed):
        known.check(
            KEY.replace("azure.net", "azure.net.evil.example"), policy_id=POLICY, slot="primary"
        )
    administration.disallow_host(state, "kv1.vault.azure.net")
    assert administration.load(state).vault_hosts == ()


def test_what_is_no_key_id_is_refused_and_changes_nothing(state):
    with pytest.raises(RootKeyRefused, match="no version"):
        administration.allow(state, KEY[:-33], policy_id=POLICY, slot="primary")
    assert administration.load(state).keys == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"probe_seconds": 0},
        {"probe_seconds": -1},
        {"ca_file": "relative.pem"},
        {"unknown": 1},
        {"lease_seconds": 20, "opening_deadline_seconds": 15},
    ],
)
def test_settings_are_checked(state, changed):
    administration.configure(state, Settings(probe_seconds=5))
    with open(administration.path(state)) as file:
        document = json.load(file)
    document["settings"] |= changed
    with open(administration.path(state), "w") as file:
        json.dump(document, file)
    with pytest.raises(KeystoreInvalid, match=r"administration.json"):
        administration.load(state)


def test_a_bad_change_leaves_the_document_alone(state):
    administration.configure(state, Settings(probe_seconds=5))
    with pytest.raises(KeystoreInvalid):
        administration.configure(state, Settings(probe_seconds=-1))
    with pytest.raises(KeystoreInvalid):
        administration.allow(state, KEY, policy_id="x", slot="primary")
    assert administration.load(state).settings.probe_seconds == 5


def test_newer_documents_and_open_modes_are_refused(state):
    administration.configure(state, Settings())
    os.chmod(administration.path(state), 0o644)
    with pytest.raises(UnsafePermissions, match="0600"):
        administration.load(state)
    os.chmod(administration.path(state), 0o600)
    with open(administration.path(state), "w") as file:
        json.dump({"format": 2, "lowest_reader": 2}, file)
    with pytest.raises(KeystoreNewer):
        administration.load(state)
