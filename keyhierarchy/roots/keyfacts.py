"""What a vault says of one version of a key, and whether that suits a root key. PURE.

A plain value for `validate` and for the check before each wrap; asking for it is azure_vault.py's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct

from keyhierarchy.roots import vault_answers

if TYPE_CHECKING:
    from keyhierarchy.errors import RootKeyRefused

KEY_TYPES = ("RSA", "RSA-HSM")
KEY_SIZES = (2048, 3072, 4096)
NEEDED_OPERATIONS = frozenset({"wrapKey", "unwrapKey"})


class KeyFacts(Struct, frozen=True, kw_only=True):
    """What the vault says of one key version. Dates are Unix seconds, None where there is none."""

    key_id: str
    vault_host: str
    name: str
    version: str
    managed_hsm: bool
    key_type: str
    hardware: bool
    size: int
    operations: tuple[str, ...]
    enabled: bool
    not_before: int | None
    expires: int | None
    created: int | None
    recovery_level: str
    recoverable_days: int | None
    tags: dict[str, str]


def require_usable(facts: KeyFacts, now: float | None = None) -> None:
    """Raise RootKeyRefused where a key must not wrap anything new."""
    now = time.time() if now is None else now
    if facts.key_type not in KEY_TYPES or facts.size not in KEY_SIZES:
        raise _unfit(
            facts,
            "unsupported-key",
            f"it is a key of type {facts.key_type}" + (f", {facts.size} bits" * bool(facts.size)),
            "make an RSA or RSA-HSM key of 2048, 3072 or 4096 bits",
        )
    missing = NEEDED_OPERATIONS - set(facts.operations)
    if missing:
        raise _unfit(
            facts,
            "operation-forbidden",
            f"it does not permit {' and '.join(sorted(missing))}",
            "permit these operations on the key",
        )
    if not facts.enabled:
        raise _unfit(facts, "key-disabled", "it is disabled", "enable it")
    if facts.not_before is not None and now < facts.not_before:
        raise _unfit(facts, "key-not-yet-valid", "it is not valid yet", "wait, or take another")
    if facts.expires is not None and now >= facts.expires:
        raise _unfit(facts, "key-expired", "it has expired", "take another version")


def _unfit(facts: KeyFacts, cause: str, what: str, remedy: str) -> RootKeyRefused:
    return vault_answers.refused(facts.key_id, "wrap a new key", cause, what, remedy)
