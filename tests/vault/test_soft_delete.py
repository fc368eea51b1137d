"""Delete, recover, purge, backup and restore, with the refusals of each state."""

import time
from pathlib import Path

import pytest
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.keyvault.keys.crypto import KeyWrapAlgorithm

from tests.vault.wire import Wire, inner_code
from tests.vault_server import VaultServer, run_cli, vault_server

pytestmark = pytest.mark.vault

DAY = 86400


def test_deleted_then_recovered(server: VaultServer, key_name: str) -> None:
    client = server.key_client("kv1")
    key = client.create_rsa_key(key_name)
    wrapped = server.crypto_client(key).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"k")
    deleted = client.begin_delete_key(key_name).result()
    assert deleted.recovery_id == f"{server.url('kv1')}/deletedkeys/{key_name}"
    lifetime = deleted.scheduled_purge_date - deleted.deleted_date
    assert lifetime.total_seconds() == 90 * DAY
    with pytest.raises(ResourceNotFoundError, match="was not found in this key vault"):
        client.get_key(key_name)
    with pytest.raises(ResourceNotFoundError):
        server.crypto_client(key.id).unwrap_key(
            KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key
        )
    assert key_name in {item.name for item in client.list_deleted_keys()}
    assert key_name not in {item.name for item in client.list_properties_of_keys()}
    client.begin_recover_deleted_key(key_name).wait()
    assert client.get_key(key_name).id == key.id
    opened = server.crypto_client(key.id).unwrap_key(
        KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key
    )
    assert opened.key == b"k"


def test_the_name_of_a_deleted_key_stays_taken(server: VaultServer, key_name: str) -> None:
    client = server.key_client("kv1")
    client.create_ec_key(key_name)
    client.begin_delete_key(key_name).wait()
    with pytest.raises(ResourceExistsError) as caught:
        client.create_ec_key(key_name)
    assert inner_code(caught.value) == "ObjectIsDeletedButRecoverable"
    assert Wire(server).call("DELETE", f"/keys/{key_name}").status_code == 404
    client.purge_deleted_key(key_name)
    with pytest.raises(ResourceNotFoundError, match="Deleted Key not found"):
        client.get_deleted_key(key_name)
    assert client.create_ec_key(key_name).name == key_name


def test_a_delete_and_a_recovery_take_their_time(server: VaultServer, key_name: str) -> None:
    server.admin.configure("kv1", delete_seconds=60, recover_seconds=60)
    client = server.key_client("kv1")
    client.create_ec_key(key_name)
    wire = Wire(server)
    assert wire.call("DELETE", f"/keys/{key_name}").status_code == 200
    assert wire.call("GET", f"/keys/{key_name}").status_code == 404
    assert wire.call("GET", f"/deletedkeys/{key_name}").status_code == 404
    with pytest.raises(ResourceExistsError) as caught:
        client.create_ec_key(key_name)
    assert inner_code(caught.value) == "ObjectIsBeingDeleted"
    server.admin.advance_clock(61)
    assert wire.call("GET", f"/deletedkeys/{key_name}").status_code == 200
    assert wire.call("POST", f"/deletedkeys/{key_name}/recover").status_code == 200
    assert wire.call("GET", f"/keys/{key_name}").status_code == 404
    assert wire.call("GET", f"/deletedkeys/{key_name}").status_code == 404
    server.admin.advance_clock(61)
    assert wire.call("GET", f"/keys/{key_name}").status_code == 200


def test_the_clients_poller_waits_for_a_slow_delete(server: VaultServer, key_name: str) -> None:
    server.admin.configure("kv1", delete_seconds=1)
    client = server.key_client("kv1")
    client.create_ec_key(key_name)
    started = time.monotonic()
    client.begin_delete_key(key_name).wait()
    assert time.monotonic() - started >= 1
    assert client.get_deleted_key(key_name).name == key_name


def test_retention_ends_with_a_purge(server: VaultServer, key_name: str) -> None:
    # In a vault whose clock nobody else needs: tokens would not outlive the jump either.
    wire = Wire(server)
    server.key_client("kv1").create_ec_key(key_name)
    assert wire.call("DELETE", f"/keys/{key_name}").status_code == 200
    shown = wire.call("GET", f"/deletedkeys/{key_name}").json()
    assert shown["scheduledPurgeDate"] - shown["deletedDate"] == 90 * DAY


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("protected") / "site"
    options = ("--recovery-level", "Recoverable+ProtectedSubscription")
    with vault_server(folder, ("prot",), init_options=options) as server:
        yield server


def test_purge_protection(protected: VaultServer, key_name: str) -> None:
    client = protected.key_client("prot")
    key = client.create_ec_key(key_name)
    assert key.properties.recovery_level == "Recoverable+ProtectedSubscription"
    client.begin_delete_key(key_name).wait()
    with pytest.raises(HttpResponseError, match="purge protection is enabled") as caught:
        client.purge_deleted_key(key_name)
    assert caught.value.status_code == 403
    assert client.get_deleted_key(key_name).name == key_name


@pytest.mark.parametrize(
    ("options", "level"),
    [
        (["--retention-days", "7"], "CustomizedRecoverable+Purgeable"),
        (["--retention-days", "30", "--purge-protection"], "CustomizedRecoverable"),
        (["--purge-protection"], "Recoverable"),
        (["--recovery-level", "Recoverable"], "Recoverable"),
    ],
)
def test_recovery_levels_of_a_new_vault(tmp_path: Path, options: list[str], level: str) -> None:
    run_cli("init", str(tmp_path / "site"), "--vault", "kv1", *options)
    assert f'"recovery_level": "{level}"' in run_cli("show", str(tmp_path / "site")).stdout


def test_backup_brings_back_all_versions_with_their_ids(server: VaultServer, key_name: str) -> None:
    client = server.key_client("kv1")
    old = client.create_rsa_key(key_name, tags={"a": "b"})
    wrapped = server.crypto_client(old).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"k")
    new = client.rotate_key(key_name)
    blob = client.backup_key(key_name)
    with pytest.raises(ResourceExistsError):
        client.restore_key_backup(blob)
    client.begin_delete_key(key_name).wait()
    with pytest.raises(ResourceExistsError):
        client.restore_key_backup(blob)
    client.purge_deleted_key(key_name)
    assert client.restore_key_backup(blob).id == new.id
    versions = {item.id for item in client.list_properties_of_key_versions(key_name)}
    assert versions == {old.id, new.id}
    opened = server.crypto_client(old.id).unwrap_key(
        KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key
    )
    assert opened.key == b"k"


def test_a_backup_opens_nowhere_else_and_not_when_changed(
    server: VaultServer, key_name: str
) -> None:
    client = server.key_client("kv1")
    client.create_ec_key(key_name)
    blob = client.backup_key(key_name)
    with pytest.raises(HttpResponseError, match="another subscription"):
        server.key_client("kv2").restore_key_backup(blob)
    changed = blob[:-1] + bytes([blob[-1] ^ 1])
    with pytest.raises(HttpResponseError, match="damaged"):
        client.restore_key_backup(changed)
