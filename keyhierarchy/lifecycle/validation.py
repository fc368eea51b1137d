"""Validate root keys: each rule by its name, with the key it is about, and what to do.

The rules are those that Microsoft sets for Customer Key and that a vault's key interface lets one
check; those it does not are listed as such. Changes nothing.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from keyhierarchy import vaultkeyid, wrapping
from keyhierarchy.errors import KeyHierarchyError, TransitionRefused, ValidationFailed
from keyhierarchy.roots.keyfacts import KEY_SIZES, KEY_TYPES, NEEDED_OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from keyhierarchy.keystore import Keystore
    from keyhierarchy.lifecycle.rooms import Rooms
    from keyhierarchy.policy import DataEncryptionPolicy
    from keyhierarchy.roots.keyfacts import KeyFacts

Result = Literal["ok", "warn", "fail"]
_NEVER = 253402214400  # 9999-12-31T00:00:00Z, the one expiry that Customer Key accepts
_RETENTION_DAYS = 90
_NO_PURGE = "Recoverable+ProtectedSubscription"

# What the key interface of a vault does not tell; an administrator has to look.
NOT_CHECKABLE = {
    "two-subscriptions": "the two vaults are in two Azure subscriptions, paid and dedicated",
    "same-tenant": "vaults and the identity that asks are in one Entra tenant",
    "two-regions": "the two vaults are in two regions",
    "least-permissions": "the identity has get, wrapKey and unwrapKey, and nothing else",
    "no-delete": "key administrators may not delete keys",
    "vault-backup": "each key version was backed up in its vault",
}


class Finding(Struct, frozen=True, kw_only=True):
    """The result of one rule on one key; `key` is empty for a rule about both."""

    rule: str
    slot: str
    key: str
    result: Result
    detail: str
    remedy: str = ""

    def told(self) -> dict[str, str]:
        """Return it as plain values."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


def require_pair(primary: str | None, secondary: str | None) -> dict[str, str]:
    """Return both key ids in their exact form; refuse where one is missing or malformed."""
    if not primary or not secondary:
        raise TransitionRefused(
            "two customer keys are needed, a primary and a secondary, each with its version; "
            "nothing was changed"
        )
    return {
        "primary": vaultkeyid.parse(primary).text,
        "secondary": vaultkeyid.parse(secondary).text,
    }


def exact(*key_ids: str | None) -> tuple[str | None, ...]:
    """Return key ids in their exact form, None for one that was not given."""
    return tuple(vaultkeyid.parse(one).text if one else None for one in key_ids)


def validate(
    rooms: Rooms,
    policy: DataEncryptionPolicy,
    keys: Mapping[str, str],
    keystore: Keystore,
    *,
    only: str | None = None,
) -> list[Finding]:
    """Check every rule; `keys` has the key id for each slot, `only` one slot is asked about."""
    findings = _pair_rules(keys)
    for slot, key_id in keys.items():
        if only in {None, slot}:
            findings += _key_rules(rooms, policy, slot, key_id, keystore)
    return findings


def require_passed(findings: Sequence[Finding], accept: Sequence[str]) -> None:
    """Raise ValidationFailed where a rule failed and was not accepted by name."""
    failed = [one for one in findings if one.result == "fail" and one.rule not in accept]
    if failed:
        told = "; ".join(
            f"{one.rule}{' (' + one.key + ')' if one.key else ''}: {one.detail}; {one.remedy}"
            for one in failed
        )
        raise ValidationFailed(
            f"the keys do not pass validation, and nothing was changed: {told}",
            key_id=failed[0].key or None,
        )


def _pair_rules(keys: Mapping[str, str]) -> list[Finding]:
    ids = [vaultkeyid.parse(key_id) for key_id in keys.values()]
    if len(ids) < 2:  # noqa: PLR2004 - a pair
        return []
    same_key = len({one.text for one in ids}) < len(ids)
    same_vault = len({one.host for one in ids}) < len(ids)
    return [
        _finding("two-keys", "", "", not same_key, "the two keys are one", "name two keys"),
        _finding(
            "two-vaults",
            "",
            "",
            not same_vault,
            f"both keys are in {ids[0].host}",
            "make the second key in another vault, so that losing one vault loses one key",
        ),
    ]


def _key_rules(
    rooms: Rooms, policy: DataEncryptionPolicy, slot: str, key_id: str, keystore: Keystore
) -> list[Finding]:
    def finding(rule: str, result: bool | Result, detail: str, remedy: str = "") -> Finding:
        return _finding(rule, slot, key_id, result, detail, remedy)

    try:
        root = rooms.vault(policy.id, key_id)
    except KeyHierarchyError as error:
        return [finding("key-id", "fail", str(error), "correct it, then validate again")]
    findings = [
        finding("key-id", "ok", ""),
        finding(
            "own-pair",
            "warn" if _used_elsewhere(keystore, policy, key_id) else "ok",
            "another policy uses this key",
            "give each policy a pair of its own",
        ),
    ]
    try:
        facts = rooms.facts(root)
    except KeyHierarchyError as error:
        return [
            *findings,
            finding("permission-get", "fail", str(error), "grant get on keys to this identity"),
        ]
    findings.append(finding("permission-get", "ok", ""))
    findings += [
        finding(rule, result, detail, remedy) for rule, result, detail, remedy in _fact_rules(facts)
    ]
    sample = secrets.token_bytes(wrapping.KEY_LENGTH)
    try:
        opened = root.unwrap(root.wrap(sample))
    except KeyHierarchyError as error:
        findings.append(
            finding(
                "round-trip",
                "fail",
                str(error),
                "grant wrapKey and unwrapKey to this identity and see that the key is usable",
            )
        )
    else:
        findings.append(
            finding(
                "round-trip",
                wrapping.same(opened, sample),
                "the vault opens something else than was wrapped",
                "do not use this vault before its owner has explained it",
            )
        )
    return findings


def _fact_rules(facts: KeyFacts) -> list[tuple[str, bool | Result, str, str]]:
    now = time.time()
    level = facts.recovery_level or "unknown"
    missing = sorted(NEEDED_OPERATIONS - set(facts.operations))
    days = facts.recoverable_days
    return [
        (
            "key-type",
            facts.key_type in KEY_TYPES,
            f"it is of type {facts.key_type}",
            "make an RSA or RSA-HSM key; a vault cannot wrap with others",
        ),
        (
            "key-size",
            facts.size in KEY_SIZES,
            f"it has {facts.size} bits",
            "make a key of 2048, 3072 or 4096 bits",
        ),
        (
            "key-operations",
            not missing,
            f"it does not permit {' and '.join(missing)}",
            "permit wrapKey and unwrapKey on the key",
        ),
        ("enabled", facts.enabled, "it is disabled", "enable it"),
        (
            "not-before",
            facts.not_before is None or facts.not_before <= now,
            "it is not valid yet",
            "take the start date away, or wait for it",
        ),
        (
            "no-expiry",
            facts.expires is None or facts.expires >= _NEVER,
            "it has a date of expiry",
            "set it to 9999-12-31, as a date once set cannot be taken away, or take another key",
        ),
        (
            "recovery-level",
            "ok"
            if level == _NO_PURGE
            else ("fail" if "Purgeable" in level or level == "unknown" else "warn"),
            f"its recovery level is {level}, so losing it for good takes one mistake",
            f"switch soft delete and purge protection on; Customer Key asks for {_NO_PURGE}",
        ),
        (
            "soft-delete-days",
            "ok" if days is not None and days >= _RETENTION_DAYS else "warn",
            f"a deleted key can be recovered for {days or 'an unknown number of'} days",
            f"keep soft-deleted keys for {_RETENTION_DAYS} days",
        ),
        (
            "hardware",
            "ok" if facts.hardware else "warn",
            "it is protected by software",
            "use an RSA-HSM key in a Premium vault or a Managed HSM for production",
        ),
    ]


def _finding(
    rule: str, slot: str, key: str, result: bool | Result, detail: str, remedy: str = ""
) -> Finding:
    if isinstance(result, bool):
        result = "ok" if result else "fail"
    if result == "ok":
        detail = remedy = ""
    return Finding(rule=rule, slot=slot, key=key, result=result, detail=detail, remedy=remedy)


def _used_elsewhere(keystore: Keystore, policy: DataEncryptionPolicy, key_id: str) -> bool:
    return any(
        wrap.key_id.rpartition("/")[0] == key_id.rpartition("/")[0]
        for section in keystore.sections
        if section.policy.id != policy.id
        for tik in section.policy.tik_generations
        for wrap in tik.wraps
    )
