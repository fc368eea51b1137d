"""The table from a vault's answer to an error, row by row."""

from __future__ import annotations

import pytest

from keyhierarchy.errors import RootKeyRefused, RootKeyUnavailable, WrappedKeyInvalid
from keyhierarchy.roots.vault_answers import RETRIED, Refusal, deleted, meaning

KEY = "https://kv1.vault.test/keys/k/" + "0" * 32


@pytest.mark.parametrize(
    ("refusal", "kind", "cause"),
    [
        (Refusal(401, "Unauthorized"), RootKeyRefused, "wrong-credentials"),
        (Refusal(403, "Forbidden", "KeyDisabled"), RootKeyRefused, "key-disabled"),
        (Refusal(403, "Forbidden", "KeyExpired"), RootKeyRefused, "key-expired"),
        (Refusal(403, "Forbidden", "KeyNotYetValid"), RootKeyRefused, "key-not-yet-valid"),
        (Refusal(403, "Forbidden", "KeyOperationForbidden"), RootKeyRefused, "operation-forbidden"),
        (Refusal(403, "Forbidden", "ForbiddenByPolicy"), RootKeyRefused, "no-permission"),
        (Refusal(403, "Forbidden", "ForbiddenByRbac"), RootKeyRefused, "no-permission"),
        (Refusal(403, "Forbidden", "ForbiddenByFirewall"), RootKeyRefused, "firewall"),
        (Refusal(403, "Forbidden", "AccessDenied"), RootKeyRefused, "no-permission"),
        (Refusal(403, "Forbidden", "SomethingNew"), RootKeyRefused, "no-permission"),
        (Refusal(404, "KeyNotFound"), RootKeyRefused, "key-not-found"),
        (Refusal(409, "Conflict"), RootKeyRefused, "key-deleted"),
        (Refusal(400, "BadParameter"), WrappedKeyInvalid, "does-not-open"),
        (Refusal(405), RootKeyRefused, "bad-request"),
        (Refusal(429, "Throttled"), RootKeyUnavailable, "throttled"),
        (Refusal(500), RootKeyUnavailable, "server-error"),
        (Refusal(503), RootKeyUnavailable, "server-error"),
        (Refusal(200), RootKeyUnavailable, "server-error"),
    ],
)
def test_each_answer(refusal, kind, cause):
    error = meaning(KEY, "unwrap", refusal)
    assert type(error) is kind
    assert (error.cause, error.key_id) == (cause, KEY)
    assert KEY in str(error)
    assert (cause in RETRIED) == (kind is RootKeyUnavailable)


def test_a_bad_request_that_is_not_an_unwrap_says_nothing_of_a_wrap():
    assert meaning(KEY, "read the attributes", Refusal(400)).cause == "bad-request"


def test_retry_after_and_the_request_are_told():
    assert meaning(KEY, "unwrap", Refusal(429, retry_after=7.0)).retry_after == 7.0
    error = meaning(KEY, "unwrap", Refusal(403, inner="KeyDisabled", request_id="abc-1"))
    assert "request abc-1" in str(error)
    assert "recover" in str(deleted(KEY, "unwrap"))
