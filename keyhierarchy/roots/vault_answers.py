"""What a vault's refusal means: HTTP status, code and inner code to an error of this package. PURE.

One table for all of them, so that "try again" and "the owner said no" are never mixed up; a lease
bridges the first and ends at the second. Codes and rules: HIERARCHY.md 15.2.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from keyhierarchy.errors import (
    KeyHierarchyError,
    RootKeyRefused,
    RootKeyUnavailable,
    WrappedKeyInvalid,
)

# Worth another try within one call; all of them are kinds of RootKeyUnavailable.
RETRIED = frozenset({"unreachable", "timeout", "throttled", "server-error"})

# Inner code of a 403: cause, what happened, what to do.
_FORBIDDEN = {
    "KeyDisabled": ("key-disabled", "the key is disabled", "its owner can enable it again"),
    "KeyExpired": ("key-expired", "the key has expired", "register another version"),
    "KeyNotYetValid": (
        "key-not-yet-valid",
        "the key is not valid yet",
        "wait for its date, or correct the clocks",
    ),
    "KeyOperationForbidden": (
        "operation-forbidden",
        "the key does not permit this operation",
        "permit get, wrapKey and unwrapKey on it",
    ),
    "ForbiddenByPolicy": (
        "no-permission",
        "this identity has no permission for it",
        "the vault's owner can grant get, wrapKey and unwrapKey",
    ),
    "ForbiddenByRbac": (
        "no-permission",
        "this identity has no role for it",
        "the vault's owner can assign Key Vault Crypto Service Encryption User",
    ),
    "ForbiddenByFirewall": (
        "firewall",
        "the vault's firewall does not let this host in",
        "the vault's owner can add an IP rule or a private link",
    ),
    "AccessDenied": (
        "no-permission",
        "the vault denies access to this identity",
        "the vault's owner can grant get, wrapKey and unwrapKey",
    ),
}


class Refusal(NamedTuple):
    """What is known of an answer that is not a result."""

    status: int
    code: str = ""
    inner: str = ""
    text: str = ""
    retry_after: float | None = None
    request_id: str = ""


def meaning(key_id: str, doing: str, refusal: Refusal) -> KeyHierarchyError:
    """Return the error for an answer of the vault that holds `key_id`."""
    status = refusal.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return unavailable(
            key_id,
            doing,
            "throttled",
            "the vault answers 429, too many requests",
            retry_after=refusal.retry_after,
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return refused(
            key_id,
            doing,
            "wrong-credentials",
            f"the vault does not accept this host's token{_said(refusal)}",
            "check the credentials and the clock of this host",
        )
    if status == HTTPStatus.FORBIDDEN:
        known = ("no-permission", "the vault answers 403", "ask the vault's owner")
        cause, what, remedy = _FORBIDDEN.get(refusal.inner, known)
        return refused(key_id, doing, cause, what + _said(refusal), remedy)
    if status == HTTPStatus.NOT_FOUND:
        return refused(
            key_id,
            doing,
            "key-not-found",
            f"the vault has no such key{_said(refusal)}",
            "it was purged or never was; restore it from a backup of the vault's keys",
        )
    if status == HTTPStatus.CONFLICT:
        return deleted(key_id, doing)
    if status == HTTPStatus.BAD_REQUEST and doing == "unwrap":
        return WrappedKeyInvalid(
            f"the wrapped key does not open under {key_id}{_said(refusal)}: the wrap was altered "
            "or made for another key; put the keystore back from a backup",
            key_id=key_id,
            cause="does-not-open",
        )
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return refused(
            key_id,
            doing,
            "bad-request",
            f"the vault answers {status}{_said(refusal)}",
            "check that the address is that of a vault",
        )
    return unavailable(
        key_id,
        doing,
        "server-error",
        f"the vault answers {status}{_said(refusal)}",
        retry_after=refusal.retry_after,
    )


def deleted(key_id: str, doing: str) -> RootKeyRefused:
    """Return the error for a key that is soft-deleted: gone for use, not lost."""
    return refused(
        key_id,
        doing,
        "key-deleted",
        "the key is deleted, and can still be recovered",
        "its owner can recover it, as long as the vault keeps it",
    )


def refused(key_id: str, doing: str, cause: str, what: str, remedy: str) -> RootKeyRefused:
    """Return a denial."""
    return RootKeyRefused(
        f"cannot {doing} with {key_id}: {what}; {remedy}", key_id=key_id, cause=cause
    )


def unavailable(
    key_id: str, doing: str, cause: str, what: str, *, retry_after: float | None = None
) -> RootKeyUnavailable:
    """Return an outage."""
    return RootKeyUnavailable(
        f"cannot {doing} with {key_id} now: {what}; it is tried again, and what holds a lease goes "
        "on until that ends",
        key_id=key_id,
        cause=cause,
        retry_after=retry_after,
    )


def _said(refusal: Refusal) -> str:
    """Name code and request, so that the vault's owner finds the request in its log."""
    known = [part for part in (refusal.inner or refusal.code, refusal.text) if part]
    if refusal.request_id:
        known.append(f"request {refusal.request_id}")
    return f" ({', '.join(known)})" if known else ""
