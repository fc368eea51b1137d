"""Each fault that can be switched on, as the real client meets it."""

import time
from collections.abc import Iterator

import pytest
from azure.core.exceptions import (
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm

from tests.vault.wire import Wire, inner_code
from tests.vault_server import VaultServer, run_cli

pytestmark = pytest.mark.vault

OAEP = KeyWrapAlgorithm.rsa_oaep_256


class Unwrapping:
    """A key, a wrap of it, and a client that has been through its challenge."""

    def __init__(self, server: VaultServer, name: str) -> None:
        key = server.key_client("kv1").create_rsa_key(name)
        self.id = key.id
        self.client = server.crypto_client(key)
        self.wrapped = self.client.wrap_key(OAEP, b"k" * 32).encrypted_key
        self.unwrap()

    def unwrap(self, client: CryptographyClient | None = None) -> bytes:
        return (client or self.client).unwrap_key(OAEP, self.wrapped).key


@pytest.fixture
def key(server: VaultServer, key_name: str) -> Iterator[Unwrapping]:
    unwrapping = Unwrapping(server, key_name)
    yield unwrapping
    server.admin.clear_faults()
    assert unwrapping.unwrap() == b"k" * 32, "the vault did not recover from its fault"


def test_throttled_without_retry_after_fails_at_once(server: VaultServer, key: Unwrapping) -> None:
    server.admin.set_fault("429", operation="unwrapKey", count=1)
    with pytest.raises(HttpResponseError, match="VaultRequestTypeLimitReached") as caught:
        key.unwrap()
    assert caught.value.status_code == 429
    assert "Retry-After" not in caught.value.response.headers


def test_throttled_with_retry_after_is_retried(server: VaultServer, key: Unwrapping) -> None:
    server.admin.set_fault("429", operation="unwrapKey", count=1, retry_after=1)
    started = time.monotonic()
    assert key.unwrap() == b"k" * 32
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("kind", ["500", "503"])
def test_a_server_error_is_retried(server: VaultServer, key: Unwrapping, kind: str) -> None:
    server.admin.set_fault(kind, operation="unwrapKey", count=1)
    assert key.unwrap() == b"k" * 32
    assert server.admin.faults() == []


def test_a_bad_gateway_is_not_retried(server: VaultServer, key: Unwrapping) -> None:
    server.admin.set_fault("502", operation="unwrapKey", count=1)
    with pytest.raises(HttpResponseError) as caught:
        key.unwrap()
    assert caught.value.status_code == 502


@pytest.mark.parametrize(
    "kind",
    ["ForbiddenByPolicy", "ForbiddenByRbac", "ForbiddenByFirewall", "AccessDenied", "KeyDisabled"],
)
def test_each_kind_of_403(server: VaultServer, key: Unwrapping, kind: str) -> None:
    server.admin.set_fault(kind, vault="kv1", operation="unwrapKey")
    for _ in range(2):
        with pytest.raises(HttpResponseError) as caught:
            key.unwrap()
        assert caught.value.status_code == 403
        assert inner_code(caught.value) == kind


@pytest.mark.parametrize("kind", ["401", "claims"])
def test_a_token_that_is_refused_once_is_replaced(
    server: VaultServer, key: Unwrapping, kind: str
) -> None:
    server.admin.set_fault(kind, operation="unwrapKey", count=1)
    assert key.unwrap() == b"k" * 32
    assert server.admin.faults() == []


def test_a_dropped_connection(server: VaultServer, key: Unwrapping) -> None:
    server.admin.set_fault("drop", operation="unwrapKey", count=1)
    with pytest.raises(ServiceResponseError):
        key.unwrap()


def test_silence(server: VaultServer, key: Unwrapping) -> None:
    server.admin.set_fault("hang", vault="kv1")
    impatient = server.crypto_client(key.id, read_timeout=0.5, retry_total=0)
    started = time.monotonic()
    with pytest.raises((ServiceRequestError, ServiceResponseError)):
        impatient.unwrap_key(OAEP, key.wrapped)
    assert time.monotonic() - started < 3
    # The other vault does not care.
    assert Wire(server, "kv2").call("GET", "/keys").status_code == 200


def test_latency(server: VaultServer, key: Unwrapping) -> None:
    server.admin.set_fault("latency", operation="unwrapKey", count=1, seconds=0.4)
    started = time.monotonic()
    assert key.unwrap() == b"k" * 32
    assert time.monotonic() - started >= 0.4


def test_an_answer_byte_by_byte(server: VaultServer, key: Unwrapping) -> None:
    server.admin.set_fault("slow", operation="unwrapKey", count=1, seconds=0.002)
    started = time.monotonic()
    assert key.unwrap() == b"k" * 32
    assert time.monotonic() - started >= 0.2


def test_a_wrong_value(server: VaultServer, key: Unwrapping) -> None:
    server.admin.set_fault("wrong-value", operation="unwrapKey", count=1)
    assert key.unwrap() != b"k" * 32


def test_a_wrong_key_id(server: VaultServer, key: Unwrapping, key_name: str) -> None:
    """The client's results repeat the id it was made with; only a get shows what was answered."""
    server.admin.set_fault("wrong-kid", count=2)
    assert key.client.unwrap_key(OAEP, key.wrapped).key_id == key.id
    assert server.key_client("kv1").get_key(key_name).id != key.id


def test_an_empty_page_that_leads_on(server: VaultServer, key_name: str) -> None:
    client = server.key_client("kv2")
    client.create_ec_key(key_name)
    server.admin.set_fault("short-page", operation="list", count=1)
    assert key_name in {item.name for item in client.list_properties_of_keys()}


@pytest.mark.parametrize("kind", ["tls-expired", "tls-untrusted"])
def test_a_bad_certificate_of_one_vault(server: VaultServer, key: Unwrapping, kind: str) -> None:
    server.admin.set_fault(kind, vault="kv1")
    client = server.crypto_client(key.id, retry_total=0)
    with pytest.raises(ServiceRequestError, match="CERTIFICATE_VERIFY_FAILED"):
        key.unwrap(client)
    assert Wire(server, "kv2").call("GET", "/keys").status_code == 200


def test_a_clock_far_ahead_refuses_every_token(server: VaultServer, key: Unwrapping) -> None:
    server.admin.skew_clock(2 * 86400)
    with pytest.raises(HttpResponseError) as caught:
        key.unwrap()
    assert caught.value.status_code == 401
    server.admin.skew_clock(0)


def test_an_authority_that_is_down(server: VaultServer, key: Unwrapping) -> None:
    server.admin.set_fault("503", vault="login", operation="token")
    credential = server.credential(retry_total=0)
    with pytest.raises(Exception, match=r"503|Unable to get authority|Authentication failed"):
        credential.get_token(f"https://vault.test:{server.running.port}/.default")
    # Whoever has a token still gets in.
    assert key.unwrap() == b"k" * 32


def test_faults_from_the_command_line(server: VaultServer, key: Unwrapping) -> None:
    folder = str(server.folder)
    run_cli("fault", "set", folder, "403", check=False)
    refused = run_cli("fault", "set", folder, "nonsense", check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("ckfs-vault: ")
    assert refused.stderr.count("\n") == 1
    run_cli("fault", "set", folder, "AccessDenied", "--vault", "kv1", "--count", "1")
    assert '"AccessDenied"' in run_cli("fault", "list", folder).stdout
    with pytest.raises(HttpResponseError):
        key.unwrap()
    assert '"faults": []' in run_cli("fault", "list", folder).stdout
