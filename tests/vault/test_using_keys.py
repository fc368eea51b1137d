"""Wrap, unwrap and their kin through the real client, and when each is refused."""

from datetime import UTC, datetime, timedelta

import pytest
from azure.core.exceptions import HttpResponseError
from azure.keyvault.keys import KeyVaultKey
from azure.keyvault.keys.crypto import EncryptionAlgorithm, KeyWrapAlgorithm, SignatureAlgorithm

from keyhierarchy.vault.identifiers import from_base64url, to_base64url
from tests.vault.wire import Wire, inner_code
from tests.vault_server import VaultServer

pytestmark = pytest.mark.vault

DIGEST = b"d" * 32
OAEP = "RSA-OAEP-256"


def remote_use(server: VaultServer, key: KeyVaultKey) -> dict[str, int]:
    """The HTTP status of each operation, asked of the server itself: the client does some alone."""
    wire = Wire(server)
    wrapped = server.crypto_client(fresh(key)).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"k")
    value = to_base64url(wrapped.encrypted_key)
    bodies = {
        "wrapkey": {"alg": OAEP, "value": to_base64url(b"k")},
        "encrypt": {"alg": OAEP, "value": to_base64url(b"k")},
        "unwrapkey": {"alg": OAEP, "value": value},
        "decrypt": {"alg": OAEP, "value": value},
        "sign": {"alg": "RS256", "value": to_base64url(DIGEST)},
        "verify": {
            "alg": "RS256",
            "digest": to_base64url(DIGEST),
            "value": to_base64url(b"s" * 256),
        },
    }
    token = wire.token()
    path = f"/keys/{key.name}/{key.properties.version}"
    return {
        verb: wire.call("POST", f"{path}/{verb}", token=token, json=body).status_code
        for verb, body in bodies.items()
    }


def fresh(key: KeyVaultKey) -> KeyVaultKey:
    """The key without its dates, so that the client itself raises no objection."""
    return KeyVaultKey(key.id, jwk=vars(key.key))


@pytest.mark.parametrize("algorithm", ["RSA-OAEP-256", "RSA-OAEP", "RSA1_5"])
def test_what_is_wrapped_here_unwraps_there(
    server: VaultServer, key_name: str, algorithm: str
) -> None:
    key = server.key_client("kv1").create_rsa_key(key_name)
    local = server.crypto_client(key)
    wrapped = local.wrap_key(KeyWrapAlgorithm(algorithm), b"k" * 32)
    opened = local.unwrap_key(KeyWrapAlgorithm(algorithm), wrapped.encrypted_key)
    assert opened.key == b"k" * 32
    assert opened.key_id == key.id


def test_the_server_wraps_too_and_names_the_version(server: VaultServer, key_name: str) -> None:
    key = server.key_client("kv1").create_rsa_key(key_name)
    body = {"alg": OAEP, "value": to_base64url(b"k" * 32)}
    # An empty version means the latest; the answer names it.
    answer = Wire(server).call("POST", f"/keys/{key_name}//WrapKey", json=body).json()
    assert answer["kid"] == key.id
    opened = server.crypto_client(key.id).unwrap_key(
        KeyWrapAlgorithm.rsa_oaep_256, from_base64url(answer["value"])
    )
    assert opened.key == b"k" * 32


def test_190_bytes_is_the_longest_for_oaep_256_with_2048_bits(
    server: VaultServer, key_name: str
) -> None:
    server.key_client("kv1").create_rsa_key(key_name)
    for length, status in ((190, 200), (191, 400)):
        body = {"alg": OAEP, "value": to_base64url(b"k" * length)}
        answer = Wire(server).call("POST", f"/keys/{key_name}//wrapkey", json=body)
        assert answer.status_code == status


def test_a_changed_wrap_does_not_open(server: VaultServer, key_name: str) -> None:
    key = server.key_client("kv1").create_rsa_key(key_name)
    crypto = server.crypto_client(key)
    wrapped = bytearray(crypto.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"k").encrypted_key)
    wrapped[-1] ^= 1
    with pytest.raises(HttpResponseError, match="Error occurred while decoding OAEP padding"):
        crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, bytes(wrapped))


def test_disabled_stops_what_needs_the_private_half(server: VaultServer, key_name: str) -> None:
    client = server.key_client("kv1")
    key = client.create_rsa_key(key_name)
    crypto = server.crypto_client(key)
    wrapped = crypto.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"k")
    client.update_key_properties(key_name, enabled=False)
    with pytest.raises(HttpResponseError, match="Operation unwrapKey is not allowed") as caught:
        crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key)
    assert caught.value.status_code == 403
    assert inner_code(caught.value) == "KeyDisabled"
    assert client.get_key(key_name).properties.enabled is False
    statuses = remote_use(server, key)
    assert statuses == {
        "wrapkey": 200,
        "encrypt": 200,
        "verify": 200,
        "unwrapkey": 403,
        "decrypt": 403,
        "sign": 403,
    }
    client.update_key_properties(key_name, enabled=True)
    assert crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key).key == b"k"


@pytest.mark.parametrize("when", ["expired", "not yet valid"])
def test_outside_its_dates_a_key_protects_nothing_new_but_opens_the_old(
    server: VaultServer, key_name: str, when: str
) -> None:
    day = timedelta(days=1)
    now = datetime.now(UTC)
    dates = {"expires_on": now - day} if when == "expired" else {"not_before": now + day}
    key = server.key_client("kv1").create_rsa_key(key_name, **dates)
    assert remote_use(server, key) == {
        "wrapkey": 403,
        "encrypt": 403,
        "sign": 403,
        "unwrapkey": 200,
        "decrypt": 200,
        "verify": 200,
    }
    with pytest.raises(HttpResponseError) as caught:
        server.crypto_client(key.id).sign(SignatureAlgorithm.rs256, DIGEST)
    assert inner_code(caught.value) == ("KeyExpired" if when == "expired" else "KeyNotYetValid")


def test_a_key_does_only_its_operations(server: VaultServer, key_name: str) -> None:
    key = server.key_client("kv1").create_rsa_key(key_name, key_operations=["wrapKey", "unwrapKey"])
    path = f"/keys/{key_name}//decrypt"
    body = {"alg": OAEP, "value": to_base64url(b"c" * 256)}
    answer = Wire(server).call("POST", path, json=body)
    assert answer.status_code == 403
    assert answer.json()["error"]["innererror"]["code"] == "KeyOperationForbidden"
    assert key.key_operations == ["wrapKey", "unwrapKey"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"alg": OAEP, "value": ""}, "Property 'value' is required"),
        ({"alg": OAEP, "value": "!!"}, "Content of 'value' is not base64url"),
        ({"alg": "ROT13", "value": "AAAA"}, "not supported"),
        ({"value": "AAAA"}, "alg"),
    ],
)
def test_a_wrong_operation_is_named(
    server: VaultServer, key_name: str, body: dict[str, str], said: str
) -> None:
    server.key_client("kv1").create_rsa_key(key_name)
    answer = Wire(server).call("POST", f"/keys/{key_name}//unwrapkey", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_decrypt_of_what_was_encrypted(server: VaultServer, key_name: str) -> None:
    key = server.key_client("kv1").create_rsa_key(key_name, size=3072)
    crypto = server.crypto_client(key)
    sealed = crypto.encrypt(EncryptionAlgorithm.rsa_oaep_256, b"text")
    assert crypto.decrypt(sealed.algorithm, sealed.ciphertext).plaintext == b"text"
