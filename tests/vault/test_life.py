"""A key's life through the real client: created, shown, changed, rotated, imported, listed."""

from datetime import UTC, datetime

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.keyvault.keys import (
    JsonWebKey,
    KeyRotationLifetimeAction,
    KeyRotationPolicy,
    KeyRotationPolicyAction,
)
from azure.keyvault.keys.crypto import KeyWrapAlgorithm, SignatureAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.vault.wire import Wire
from tests.vault_server import VaultServer

pytestmark = pytest.mark.vault


@pytest.mark.parametrize("hardware", [False, True])
@pytest.mark.parametrize("size", [2048, 3072])
def test_rsa_key_is_created_and_shown(
    server: VaultServer, key_name: str, size: int, hardware: bool
) -> None:
    client = server.key_client("kv1")
    made = client.create_rsa_key(key_name, size=size, hardware_protected=hardware)
    assert made.key_type == ("RSA-HSM" if hardware else "RSA")
    assert len(made.key.n) * 8 == size
    assert made.id == f"{server.url('kv1')}/keys/{key_name}/{made.properties.version}"
    assert made.properties.recovery_level == "Recoverable+Purgeable"
    assert made.properties.recoverable_days == 90
    shown = client.get_key(key_name)
    assert shown.id == made.id
    assert vars(shown.key) == vars(made.key)
    assert "d" not in {name for name, value in vars(shown.key).items() if value}


def test_names_compare_without_case(server: VaultServer, key_name: str) -> None:
    client = server.key_client("kv1")
    made = client.create_ec_key(key_name)
    assert client.get_key(key_name.upper()).id == made.id


@pytest.mark.parametrize(
    ("crv", "algorithm"), [("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512")]
)
def test_ec_keys_sign_and_the_signature_verifies(
    server: VaultServer, key_name: str, crv: str, algorithm: str
) -> None:
    key = server.key_client("kv1").create_ec_key(key_name, curve=crv)
    crypto = server.crypto_client(key)
    digest = b"d" * {"ES256": 32, "ES384": 48, "ES512": 64}[algorithm]
    signature = crypto.sign(SignatureAlgorithm(algorithm), digest).signature
    assert crypto.verify(SignatureAlgorithm(algorithm), digest, signature).is_valid
    changed = bytes([signature[0] ^ 1]) + signature[1:]
    assert not crypto.verify(SignatureAlgorithm(algorithm), digest, changed).is_valid


def test_a_second_create_makes_a_second_version(server: VaultServer, key_name: str) -> None:
    client = server.key_client("kv1")
    first, second = client.create_ec_key(key_name), client.create_ec_key(key_name)
    assert client.get_key(key_name).id == second.id
    assert client.get_key(key_name, first.properties.version).id == first.id
    listed = {item.id for item in client.list_properties_of_key_versions(key_name)}
    assert listed == {first.id, second.id}


def test_update_changes_only_what_was_given(server: VaultServer, key_name: str) -> None:
    client = server.key_client("kv1")
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    made = client.create_rsa_key(key_name, tags={"a": "b"}, not_before=begin)
    changed = client.update_key_properties(key_name, expires_on=end, enabled=False)
    assert changed.properties.expires_on == end
    assert changed.properties.not_before == begin
    assert changed.properties.tags == {"a": "b"}
    assert changed.properties.enabled is False
    assert changed.id == made.id
    limited = client.update_key_properties(key_name, key_operations=["wrapKey", "unwrapKey"])
    assert limited.key_operations == ["wrapKey", "unwrapKey"]
    assert limited.properties.enabled is False


def test_rotation_keeps_old_versions_usable(server: VaultServer, key_name: str) -> None:
    client = server.key_client("kv1")
    old = client.create_rsa_key(key_name)
    wrapped = server.crypto_client(old).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"k" * 32)
    new = client.rotate_key(key_name)
    assert new.id != old.id
    assert new.key.n != old.key.n
    unwrapped = server.crypto_client(old.id).unwrap_key(
        KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key
    )
    assert unwrapped.key == b"k" * 32
    assert unwrapped.key_id == old.id
    with pytest.raises(HttpResponseError, match="OAEP"):
        server.crypto_client(new.id).unwrap_key(
            KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key
        )


def test_rotation_policy_has_a_default_and_gives_new_versions_an_expiry(
    server: VaultServer, key_name: str
) -> None:
    client = server.key_client("kv1")
    client.create_ec_key(key_name)
    default = client.get_key_rotation_policy(key_name)
    assert [action.action for action in default.lifetime_actions] == ["Notify"]
    assert default.lifetime_actions[0].time_before_expiry == "P30D"
    rotate = KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_after_create="P3M")
    policy = KeyRotationPolicy(lifetime_actions=[rotate], expires_in="P1Y")
    client.update_key_rotation_policy(key_name, policy)
    rotated = client.rotate_key(key_name)
    assert rotated.properties.expires_on is not None
    assert (rotated.properties.expires_on - rotated.properties.created_on).days in (365, 366)


def test_an_imported_rsa_key_is_the_one_that_was_given(server: VaultServer, key_name: str) -> None:
    numbers = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
    public = numbers.public_numbers

    def octets(number: int) -> bytes:
        return number.to_bytes((number.bit_length() + 7) // 8)

    jwk = JsonWebKey(
        kty="RSA",
        key_ops=["wrapKey", "unwrapKey"],
        n=octets(public.n),
        e=octets(public.e),
        d=octets(numbers.d),
        p=octets(numbers.p),
        q=octets(numbers.q),
        dp=octets(numbers.dmp1),
        dq=octets(numbers.dmq1),
        qi=octets(numbers.iqmp),
    )
    client = server.key_client("kv1")
    imported = client.import_key(key_name, jwk, hardware_protected=True)
    assert imported.key_type == "RSA-HSM"
    assert imported.key.n == octets(public.n)
    assert imported.key_operations == ["wrapKey", "unwrapKey"]
    local = server.crypto_client(imported).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"secret")
    remote = server.crypto_client(imported.id).unwrap_key(local.algorithm, local.encrypted_key)
    assert remote.key == b"secret"


def test_an_import_whose_halves_do_not_belong_together_is_refused(
    server: VaultServer, key_name: str
) -> None:
    one, other = (ec.generate_private_key(ec.SECP256R1()).private_numbers() for _ in range(2))
    jwk = JsonWebKey(
        kty="EC",
        crv="P-256",
        x=one.public_numbers.x.to_bytes(32),
        y=one.public_numbers.y.to_bytes(32),
        d=other.private_value.to_bytes(32),
    )
    client = server.key_client("kv1")
    with pytest.raises(HttpResponseError, match="not a valid EC key"):
        client.import_key(key_name, jwk)
    with pytest.raises(ResourceNotFoundError):
        client.get_key(key_name)


def test_lists_come_in_pages_that_lead_on(server: VaultServer, key_name: str) -> None:
    client = server.key_client("kv2")
    names = {f"{key_name}-{number}" for number in range(7)}
    for name in names:
        client.create_ec_key(name)
    pages = list(client.list_properties_of_keys(max_page_size=3).by_page())
    sizes = [len(list(page)) for page in pages]
    assert all(size == 3 for size in sizes[:-1])
    assert names <= {item.name for item in client.list_properties_of_keys(max_page_size=3)}
    link = Wire(server, "kv2").call("GET", "/keys", params={"maxresults": 3}).json()["nextLink"]
    assert link.startswith(f"{server.url('kv2')}/keys?")
    assert "$skiptoken=" in link
    for bad in ("0", "26", "x"):
        answer = Wire(server).call("GET", "/keys", params={"maxresults": bad})
        assert answer.status_code == 400


def test_a_key_that_is_not_there_has_no_versions(server: VaultServer, key_name: str) -> None:
    assert list(server.key_client("kv1").list_properties_of_key_versions(key_name)) == []


def test_keys_of_a_managed_hsm(server: VaultServer, key_name: str) -> None:
    client = server.key_client("hsm1")
    assert client.vault_url.startswith("https://hsm1.managedhsm.test:")
    key = client.create_oct_key(key_name, size=256, hardware_protected=True)
    crypto = server.crypto_client(key.id)
    wrapped = crypto.wrap_key(KeyWrapAlgorithm.aes_256, b"k" * 32)
    assert crypto.unwrap_key(wrapped.algorithm, wrapped.encrypted_key).key == b"k" * 32
    assert len(client.get_random_bytes(count=8)) == 8
    with pytest.raises(HttpResponseError, match="Managed HSM only"):
        server.key_client("kv1").create_oct_key(key_name, hardware_protected=True)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"kty": "DSA"}, "not a key type"),
        ({"kty": "RSA", "key_size": 1024}, "key size"),
        ({"kty": "EC", "crv": "P-999"}, "not a curve"),
        ({"kty": "RSA", "tags": {str(number): "" for number in range(16)}}, "tags"),
        ({"kty": "RSA", "attributes": {"nbf": 200, "exp": 100}}, "before"),
        ({}, "kty"),
        ([], "object"),
    ],
)
def test_a_wrong_request_is_named_and_makes_nothing(
    server: VaultServer, key_name: str, body: object, said: str
) -> None:
    answer = Wire(server).call("POST", f"/keys/{key_name}/create", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "BadParameter"
    assert said in answer.json()["error"]["message"]
    assert Wire(server).call("GET", f"/keys/{key_name}").status_code == 404
