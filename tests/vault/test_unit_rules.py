"""Rules that need no server: when a key may be used, whom a fault strikes, how fast is too fast."""

import msgspec
import pytest

from keyhierarchy.vault.clock import Clock
from keyhierarchy.vault.errors import VaultError
from keyhierarchy.vault.faults import ANY, Fault, FaultBoard, check_fault
from keyhierarchy.vault.principals import add_principal, authenticate, parse_permissions
from keyhierarchy.vault.records import Installation, KeyVersion, VaultProperties
from keyhierarchy.vault.throttling import Throttle, check_setting, use_limit
from keyhierarchy.vault.tokens import Tokens
from keyhierarchy.vault.usability import require_usable

ALL = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]
NOW = 1000


def version(**members: object) -> KeyVersion:
    base = KeyVersion("0" * 32, "RSA", b"", list(ALL), 1, 1)
    return msgspec.structs.replace(base, **members)


def refused(key: KeyVersion) -> dict[str, str]:
    found = {}
    for operation in ALL:
        try:
            require_usable(operation, key, NOW)
        except VaultError as error:
            found[operation] = str(error.inner)
    return found


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (version(), {}),
        (version(nbf=NOW, exp=NOW + 1), {}),
        (version(enabled=False), dict.fromkeys(["decrypt", "sign", "unwrapKey"], "KeyDisabled")),
        (version(exp=NOW), dict.fromkeys(["encrypt", "sign", "wrapKey"], "KeyExpired")),
        (version(nbf=NOW + 1), dict.fromkeys(["encrypt", "sign", "wrapKey"], "KeyNotYetValid")),
        (
            version(key_ops=["wrapKey", "unwrapKey"]),
            dict.fromkeys(["encrypt", "decrypt", "sign", "verify"], "KeyOperationForbidden"),
        ),
        (
            version(enabled=False, exp=NOW),
            {
                "decrypt": "KeyDisabled",
                "sign": "KeyDisabled",
                "unwrapKey": "KeyDisabled",
                "encrypt": "KeyExpired",
                "wrapKey": "KeyExpired",
            },
        ),
    ],
)
def test_what_a_key_refuses(key: KeyVersion, expected: dict[str, str]) -> None:
    assert refused(key) == expected


@pytest.mark.parametrize(
    ("days", "purge_protection", "subscription", "level"),
    [
        (90, False, False, "Recoverable+Purgeable"),
        (90, True, False, "Recoverable"),
        (90, False, True, "Recoverable+ProtectedSubscription"),
        (7, False, False, "CustomizedRecoverable+Purgeable"),
        (89, True, False, "CustomizedRecoverable"),
        (89, True, True, "CustomizedRecoverable+ProtectedSubscription"),
    ],
)
def test_recovery_levels(days: int, purge_protection: bool, subscription: bool, level: str) -> None:
    properties = VaultProperties(
        name="kv1",
        subscription="s",
        retention_days=days,
        purge_protection=purge_protection,
        subscription_protected=subscription,
    )
    assert properties.recovery_level == level
    assert properties.refuses_purge == ("Purgeable" not in level)


def test_a_counted_fault_spares_the_question_for_the_challenge() -> None:
    board = FaultBoard()
    board.set(Fault("503", count=1))
    assert board.strike("kv1", "get", authenticated=False) == []
    assert len(board.strike("kv1", "get", authenticated=True)) == 1
    assert board.strike("kv1", "get", authenticated=True) == []


def test_a_lasting_outage_meets_everybody_but_a_refusal_only_who_has_a_token() -> None:
    board = FaultBoard()
    board.set(Fault("hang", vault="kv1"))
    board.set(Fault("AccessDenied", vault="kv1"))
    assert [each.kind for each in board.strike("kv1", "get", authenticated=False)] == ["hang"]
    assert len(board.strike("kv1", "get", authenticated=True)) == 2
    assert board.strike("kv2", "get", authenticated=True) == []
    assert board.clear(1) == 1
    assert board.clear() == 1
    assert board.faults == []


def test_faults_are_for_one_operation_when_they_say_so() -> None:
    board = FaultBoard()
    board.set(Fault("drop", operation="unwrapKey"))
    assert board.strike("kv1", "get", authenticated=True) == []
    assert board.strike("kv1", "unwrapKey", authenticated=True)


def test_the_authority_is_struck_only_when_named() -> None:
    board = FaultBoard()
    board.set(Fault("503"))
    assert board.strike("login", "token", authenticated=True) == []
    board.set(Fault("503", vault="login"))
    assert len(board.strike("login", "token", authenticated=True)) == 1


def test_certificate_faults_are_met_at_the_handshake_alone() -> None:
    board = FaultBoard()
    board.set(Fault("tls-expired", vault="kv1", count=1))
    assert board.strike("kv1", "get", authenticated=True) == []
    assert board.certificate_fault("kv2") is None
    assert board.certificate_fault("kv1") is not None
    assert board.certificate_fault("kv1") is None


@pytest.mark.parametrize(
    "fault",
    [
        Fault("drop", vault="kv9"),
        Fault("drop", operation="fly"),
        Fault("drop", count=0),
        Fault("latency"),
    ],
)
def test_a_mistyped_fault_is_refused(fault: Fault) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        check_fault(fault, ["kv1"])
    check_fault(Fault("drop", vault=ANY, operation="unwrapKey", count=1), ["kv1"])


def test_the_window_slides_and_refusals_do_not_count() -> None:
    throttle = Throttle()
    assert all(throttle.admit(float(second), 5) for second in range(5))
    assert not any(throttle.admit(9.9, 5) for _ in range(10))
    assert throttle.admit(10.0, 5)
    assert not throttle.admit(10.5, 5)
    assert throttle.admit(11.0, 5)


def test_kinds_of_request_share_one_window() -> None:
    throttle = Throttle()
    assert all(throttle.admit(0.0, 20) for _ in range(10))
    assert all(throttle.admit(0.0, 10) for _ in range(5))
    assert not throttle.admit(0.0, 4000)


def test_a_clock_that_is_set_back_starts_the_count_anew() -> None:
    throttle = Throttle()
    assert throttle.admit(1000.0, 1)
    assert not throttle.admit(1000.0, 1)
    assert throttle.admit(10.0, 1)


def test_published_limits() -> None:
    assert use_limit(version(size=2048)) == 4000
    assert use_limit(version(kty="RSA-HSM", size=2048)) == 2000
    assert use_limit(version(kty="RSA-HSM", size=4096)) == 250
    assert use_limit(None) == 4000
    for good in ("service", "off", "17"):
        assert check_setting(good) == good
    for bad in ("", "0", "-1", "much"):
        with pytest.raises(ValueError, match="limit"):
            check_setting(bad)


def test_permissions_are_spelled_the_services_way() -> None:
    assert parse_permissions(["WRAPKEY", "get", "get"]) == ["get", "wrapKey"]
    assert "purge" in parse_permissions(["all"])
    with pytest.raises(ValueError, match="fly"):
        parse_permissions(["fly"])


def test_a_secret_is_known_by_its_digest_only() -> None:
    installation = Installation(tenant_id="t")
    principal, secret = add_principal(installation, "ckfs")
    assert secret.encode() not in msgspec.json.encode(installation)
    assert authenticate(installation, principal.client_id, secret) is principal
    assert authenticate(installation, principal.client_id, secret + "x") is None
    assert authenticate(installation, "nobody", secret) is None
    with pytest.raises(ValueError, match="exists already"):
        add_principal(installation, "ckfs")
    for name in ("", "../../root", "a/b", ".hidden", "a\0b", "x" * 65):
        with pytest.raises(ValueError, match="no name for a principal"):
            add_principal(installation, name)


def test_tokens_hold_for_their_tenant_audience_time_and_maker() -> None:
    clock = Clock()
    tokens = Tokens(b"k" * 32, clock)
    principal, _ = add_principal(Installation(tenant_id="t"), "ckfs")
    token = tokens.issue(principal, "t", "https://vault.test")
    assert tokens.check(token, "t", "https://vault.test").oid == principal.object_id
    for tenant, audience, said in (
        ("u", "https://vault.test", "AKV10032: Invalid issuer"),
        ("t", "https://vault.test:1", "AKV10022: Invalid audience"),
    ):
        with pytest.raises(VaultError, match=said):
            tokens.check(token, tenant, audience)
    with pytest.raises(VaultError, match="AKV10046"):
        Tokens(b"x" * 32, clock).check(token, "t", "https://vault.test")
    for offset in (90_000, -600):
        clock.offset_seconds = offset
        with pytest.raises(VaultError, match="expired or is not valid yet"):
            tokens.check(token, "t", "https://vault.test")
