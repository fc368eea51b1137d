"""Who gets in: challenge, tokens, credentials of azure-identity, permissions, TLS, host names."""

import subprocess
import sys
from pathlib import Path

import pytest
import requests
import trustme
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
)
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys._shared import http_challenge_cache
from azure.keyvault.keys.crypto import KeyWrapAlgorithm

from tests.vault.wire import Wire, inner_code
from tests.vault_server import ROOT, VaultServer

pytestmark = pytest.mark.vault


def test_the_challenge_names_authority_and_resource(server: VaultServer) -> None:
    port = server.running.port
    answer = Wire(server).call("GET", "/keys", token="")
    assert answer.status_code == 401
    tenant = server.client().tenant_id
    assert answer.headers["WWW-Authenticate"] == (
        f'Bearer authorization="https://login.vault.test:{port}/{tenant}", '
        f'resource="https://vault.test:{port}"'
    )
    assert answer.json()["error"]["code"] == "Unauthorized"


def test_on_the_standard_port_the_resource_has_none(server: VaultServer) -> None:
    answer = Wire(server).call("GET", "/keys", token="", headers={"Host": "kv1.vault.test"})
    assert 'resource="https://vault.test"' in answer.headers["WWW-Authenticate"]
    assert "https://login.vault.test/" in answer.headers["WWW-Authenticate"]


def test_every_answer_has_the_services_headers(server: VaultServer) -> None:
    answer = Wire(server).call("GET", "/keys", headers={"x-ms-client-request-id": "mine"})
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["x-ms-client-request-id"] == "mine"
    assert len(answer.headers["x-ms-request-id"]) == 36
    assert answer.headers["x-ms-keyvault-region"] == "local"
    assert answer.headers["x-ms-keyvault-network-info"].startswith("conn_type=Ipv4;addr=127.0.0.1")
    for name, value in {
        "Cache-Control": "no-cache",
        "Pragma": "no-cache",
        "Expires": "-1",
        "X-Content-Type-Options": "nosniff",
    }.items():
        assert answer.headers[name] == value
    assert "Strict-Transport-Security" in answer.headers


def test_a_first_call_takes_two_requests_and_the_next_one(
    server: VaultServer, key_name: str
) -> None:
    http_challenge_cache.clear()
    client = server.key_client("kv1")
    before = len(server.audit("kv1"))
    client.create_ec_key(key_name)
    client.get_key(key_name)
    statuses = [line["properties"]["httpStatusCode"] for line in server.audit("kv1")[before:]]
    assert statuses == [401, 200, 200]


def test_the_api_version_is_needed(server: VaultServer) -> None:
    answer = Wire(server).call("GET", "/keys", params={"api-version": "1.0"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "BadParameter"


@pytest.mark.parametrize("token", ["x", "a.b.c", "e30.e30.e30", "é.b.c".encode()])
def test_a_forged_token_is_refused_with_a_challenge(
    server: VaultServer, token: str | bytes
) -> None:
    bearer = token if isinstance(token, bytes) else token.encode()
    answer = Wire(server).call(
        "GET", "/keys", token="", headers={"Authorization": b"Bearer " + bearer}
    )
    assert answer.status_code == 401
    assert "WWW-Authenticate" in answer.headers


def test_a_token_for_another_resource_is_refused(server: VaultServer) -> None:
    port = server.running.port
    token = server.credential().get_token(f"https://elsewhere.test:{port}/.default").token
    answer = Wire(server).call("GET", "/keys", token=token)
    assert answer.status_code == 401
    assert "AKV10022: Invalid audience" in answer.json()["error"]["message"]


def test_a_wrong_secret_gets_no_token(server: VaultServer) -> None:
    client = server.client()
    credential = ClientSecretCredential(
        client.tenant_id,
        client.client_id,
        "wrong",
        authority=server.running.authority,
        disable_instance_discovery=True,
        connection_verify=server.ca_path,
    )
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        credential.get_token(f"https://vault.test:{server.running.port}/.default")


def test_default_azure_credential_from_the_environment(
    server: VaultServer, key_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    with DefaultAzureCredential(disable_instance_discovery=True) as credential:
        client = KeyClient(server.url("kv1"), credential)
        assert client.create_ec_key(key_name).name == key_name


def test_a_program_that_can_be_told_nothing_but_its_environment(server: VaultServer) -> None:
    """The tenant word adfs spares msal its question to Microsoft; names resolve by the runner."""
    program = (
        "from azure.identity import DefaultAzureCredential as C\n"
        "from azure.keyvault.keys import KeyClient\n"
        f"print(sum(1 for _ in KeyClient({server.url('kv1')!r}, C()).list_deleted_keys()) >= 0)\n"
    )
    folder = server.folder / "program"
    folder.mkdir(exist_ok=True)
    (folder / "a_program.py").write_text(program)
    environment = server.environment() | {
        "AZURE_TENANT_ID": "adfs",
        "PYTHONPATH": f"{ROOT}:{folder}",
        "PATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "keyhierarchy.vault.resolve", "a_program"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "True\n"


def test_permissions_are_per_principal_and_vault(server: VaultServer, key_name: str) -> None:
    key = server.key_client("kv1").create_rsa_key(key_name)
    name = f"ckfs-{key_name[-8:]}"
    server.add_principal(name, {"kv1": ["get", "wrapKey", "unwrapKey"]})
    crypto = server.crypto_client(key.id, name)
    wrapped = crypto.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"k")
    assert crypto.unwrap_key(wrapped.algorithm, wrapped.encrypted_key).key == b"k"
    with pytest.raises(HttpResponseError, match="does not have keys delete permission") as caught:
        server.key_client("kv1", name).begin_delete_key(key_name)
    assert caught.value.status_code == 403
    assert inner_code(caught.value) == "ForbiddenByPolicy"
    assert f"appid={server.client(name).client_id}" in str(caught.value)
    with pytest.raises(HttpResponseError, match="key vault 'kv2;location=local'"):
        server.key_client("kv2", name).get_key(key_name)
    server.admin.grant("kv1", name, [])
    with pytest.raises(HttpResponseError, match="does not have keys unwrapKey permission"):
        crypto.unwrap_key(wrapped.algorithm, wrapped.encrypted_key)


def test_an_untrusted_ca_is_refused_by_the_client(server: VaultServer, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    client = server.key_client("kv1", connection_verify=str(other), retry_total=0)
    with pytest.raises(ServiceRequestError, match="CERTIFICATE_VERIFY_FAILED"):
        client.get_key("any")


def test_a_vault_that_is_not_there_is_named(server: VaultServer) -> None:
    url = server.url("kv1").replace("kv1", "kv9")
    answer = requests.get(f"{url}/keys", verify=server.ca_path, timeout=10)
    assert answer.status_code == 404
    assert "No vault answers at 'kv9.vault.test" in answer.json()["error"]["message"]
    assert "kv1, kv2" in answer.json()["error"]["message"]


def test_the_administration_wants_its_token(server: VaultServer) -> None:
    url = f"https://127.0.0.1:{server.running.admin_port}/show"
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = requests.post(url, headers=headers, verify=server.ca_path, timeout=10)
        assert answer.status_code == 401
    # And it is not to be found where the vaults answer.
    for host in ("localhost", "kv1.vault.test"):
        url = f"https://{host}:{server.running.port}/show"
        assert requests.post(url, verify=server.ca_path, timeout=10).status_code in (400, 401)
