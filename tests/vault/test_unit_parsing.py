"""What comes in from outside never ends in anything but a value or the right refusal."""

import contextlib
import string
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhierarchy.vault import documents, identifiers, material, rotation, routes
from keyhierarchy.vault.errors import StateDamaged, VaultError
from keyhierarchy.vault.records import KeyRecord, KeyVersion, RotationPolicy
from keyhierarchy.vault.sealing import Sealer
from keyhierarchy.vault.store import VaultStore

BODIES = [
    documents.CreateKey,
    documents.ImportKey,
    documents.KeyMetadata,
    documents.KeyOperation,
    documents.Verify,
    documents.Restore,
    documents.RandomBytes,
    documents.RotationPolicyBody,
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["kty", "key", "attributes", "tags", "alg", "value", "n", "exp", "count"]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


MEMBERS = ["n", "e", "d", "p", "q", "dp", "dq", "qi", "x", "y", "k"]


def outcome(act: Callable[[], Any]) -> Any:
    """What `act` gives, or the refusal it raises; anything else raised fails the test."""
    try:
        return act()
    except VaultError as refusal:
        return refusal


@pytest.mark.parametrize("shape", BODIES)
@given(body=st.binary(max_size=64) | JSON.map(msgspec.json.encode))
def test_any_body_is_a_value_or_bad_parameter(shape: type, body: bytes) -> None:
    value = outcome(lambda: documents.parse_body(body, shape))
    assert isinstance(value, shape) or value.code == "BadParameter"


def test_a_deep_body_is_refused() -> None:
    with pytest.raises(VaultError):
        documents.parse_body(b'{"kty":' + b"[" * 100_000, documents.CreateKey)


@given(
    kty=st.sampled_from([*material.KEY_TYPES, "x"]),
    body=st.none() | st.text(alphabet="AB", max_size=9) | st.integers() | st.just("AQAB"),
)
def test_any_jwk_is_refused_as_a_bad_parameter(kty: str, body: object) -> None:
    given_key = msgspec.json.encode({"key": {"kty": kty, **dict.fromkeys(MEMBERS, body)}})
    value = outcome(
        lambda: material.from_jwk(documents.parse_body(given_key, documents.ImportKey).key)
    )
    assert value.code == "BadParameter", "nobody draws a valid key by chance"


@given(st.binary(max_size=100))
def test_base64url_round_trip(data: bytes) -> None:
    text = identifiers.to_base64url(data)
    assert "=" not in text
    assert identifiers.from_base64url(text) == data


@given(st.text(max_size=30))
def test_base64url_refuses_by_value_error_only(text: str) -> None:
    with contextlib.suppress(ValueError):
        identifiers.from_base64url(text)


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]),
    path=st.text(alphabet=string.ascii_letters + "/-%.0", max_size=40)
    | st.lists(
        st.sampled_from(["keys", "deletedkeys", "rng", "k", "create", "sign", "a" * 32, "", ".."]),
        max_size=6,
    ).map(lambda parts: "/" + "/".join(parts)),
)
def test_any_path_is_an_operation_or_none(method: str, path: str) -> None:
    route = routes.match(method, path)
    if route is not None:
        assert routes.OPERATIONS[route.operation.name] is route.operation
        assert route.key == "" or identifiers.is_key_name(route.key)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/keys", ("list", "", "")),
        ("GET", "/keys/", ("list", "", "")),
        ("GET", "/keys/k", ("get", "k", "")),
        ("GET", "/keys/k/", ("get", "k", "")),
        ("GET", "/keys/k/v", ("get", "k", "v")),
        ("GET", "/keys/k/versions", ("versions", "k", "")),
        ("PATCH", "/keys/k/", ("update", "k", "")),
        ("PATCH", "/keys/k/v", ("update", "k", "v")),
        ("PUT", "/keys/k", ("import", "k", "")),
        ("PUT", "/keys/k/rotationpolicy", ("setrotationpolicy", "k", "")),
        ("DELETE", "/keys/k", ("delete", "k", "")),
        ("POST", "/keys/restore", ("restore", "", "")),
        ("POST", "/keys/restore/create", ("create", "restore", "")),
        ("POST", "/keys/k/v/unwrapkey", ("unwrapKey", "k", "v")),
        ("POST", "/keys/k/v/unwrapKey", ("unwrapKey", "k", "v")),
        ("POST", "/keys/k//wrapkey", ("wrapKey", "k", "")),
        ("POST", "/keys/k/wrapkey", ("wrapKey", "k", "")),
        ("POST", "/deletedkeys/k/recover", ("recover", "k", "")),
        ("DELETE", "/deletedkeys/k", ("purge", "k", "")),
        ("POST", "/rng", ("rng", "", "")),
        ("POST", "/keys", None),
        ("GET", "/secrets", None),
        ("POST", "/keys/k/v/w/x", None),
        ("POST", "/keys/k_k/create", None),
    ],
)
def test_routes(method: str, path: str, expected: tuple[str, str, str] | None) -> None:
    route = routes.match(method, path)
    found = route and (route.operation.name, route.key, route.version)
    assert found == expected


@pytest.mark.parametrize("name", ["kv1", "a-b", "abc", "a" * 24])
def test_vault_names(name: str) -> None:
    assert identifiers.is_vault_name(name)


@pytest.mark.parametrize("name", ["", "ab", "1ab", "a--b", "ab-", "A12", "a_b", "a" * 25, "login"])
def test_no_vault_names(name: str) -> None:
    assert not identifiers.is_vault_name(name)


@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("kv1.vault.test:8443", "kv1"),
        ("KV1.Vault.Test", "kv1"),
        ("a.kv1.vault.test", None),
        ("kv1.vault.test.evil", None),
        ("vault.test", None),
        (".vault.test", None),
        ("", None),
    ],
)
def test_hosts(host: str, label: str | None) -> None:
    assert identifiers.label_in_domain(host, "vault.test") == label


def a_store(folder: object) -> VaultStore:
    return VaultStore(folder, Sealer(b"m" * 32, "test"))


def a_record() -> KeyRecord:
    version = KeyVersion("0" * 32, "RSA", b"secret", ["sign"], 1, 2, tags={"a": "b"})
    return KeyRecord(name="Name", versions=[version])


def test_a_record_comes_back_from_its_file(tmp_path: object) -> None:
    store = a_store(tmp_path)
    packed = store.pack(a_record())
    assert b"secret" not in packed
    assert store.parse("name", packed) == a_record()
    assert store.pack(a_record()) != packed, "each sealing has a nonce of its own"


@given(st.data())
def test_a_damaged_key_file_is_noticed(data: st.DataObject) -> None:
    store = a_store(_Folder())
    packed = bytearray(store.pack(a_record()))
    cut = data.draw(st.integers(0, len(packed)))
    changed = bytes(packed[:cut]) + data.draw(st.binary(max_size=8))
    if changed == bytes(packed):
        return
    with pytest.raises(StateDamaged):
        store.parse("name", changed)


class _Folder:
    """Stands for a folder of which only the name matters."""

    name = "kv1"

    def __truediv__(self, _: str) -> "_Folder":
        return self


def test_a_key_file_opens_under_its_own_name_only(tmp_path: object) -> None:
    store = a_store(tmp_path)
    with pytest.raises(StateDamaged):
        store.parse("other", store.pack(a_record()))
    with pytest.raises(StateDamaged):
        VaultStore(tmp_path, Sealer(b"x" * 32, "test")).parse("name", store.pack(a_record()))


NO_POLICY = RotationPolicy(actions=[], created=1, updated=1)


@given(text=st.text(alphabet="PYMWDTH0123456789.", max_size=8))
def test_any_duration_is_a_date_or_bad_parameter(text: str) -> None:
    value = outcome(lambda: rotation.after(0, text))
    assert value.code == "BadParameter" if isinstance(value, VaultError) else value >= 0


@pytest.mark.parametrize(
    ("duration", "days"), [("P30D", 30), ("P1M", 31), ("P1Y", 365), ("P2W", 14), ("P1Y1M1D", 397)]
)
def test_durations_from_the_epoch(duration: str, days: int) -> None:
    assert rotation.after(0, duration) == days * 86400


def test_a_month_after_the_31st_is_the_last_of_the_next() -> None:
    january_31 = 30 * 86400
    assert rotation.after(january_31, "P1M") == 58 * 86400


@pytest.mark.parametrize(
    "body",
    [
        {"lifetimeActions": [{"action": {"type": "Fly"}, "trigger": {"timeAfterCreate": "P30D"}}]},
        {"lifetimeActions": [{"action": {"type": "Rotate"}}]},
        {
            "lifetimeActions": [
                {"action": {"type": "Rotate"}, "trigger": {"timeBeforeExpiry": "P30D"}}
            ]
        },
        {
            "lifetimeActions": [
                {"action": {"type": "Notify"}, "trigger": {"timeAfterCreate": "P9D"}}
            ]
        },
        {"attributes": {"expiryTime": "P27D"}},
        {"attributes": {"expiryTime": "soon"}},
    ],
)
def test_wrong_rotation_policies(body: object) -> None:
    parsed = documents.parse_body(msgspec.json.encode(body), documents.RotationPolicyBody)
    with pytest.raises(VaultError):
        rotation.parse_policy(parsed, 5, NO_POLICY)
