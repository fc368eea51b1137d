"""May this version of a key do this operation now? Pure: facts in, a refusal or nothing out.

Disabled stops what uses the private half; the public half goes on working, as the service does.
Outside its dates a key still decrypts, unwraps and verifies, so that nobody loses data to a date.
"""

from keyhierarchy.vault import errors
from keyhierarchy.vault.records import KeyVersion

# Wire names of the operations; the ones that need no private half, and the ones that dates stop.
PUBLIC_OPERATIONS = frozenset({"encrypt", "verify", "wrapKey"})
NEW_PROTECTION = frozenset({"encrypt", "sign", "wrapKey"})


def require_usable(operation: str, version: KeyVersion, now: float) -> None:
    """VaultError 403 with the inner code that says why not."""
    if not version.enabled and operation not in PUBLIC_OPERATIONS:
        raise errors.key_disabled(operation)
    if operation not in version.key_ops:
        raise errors.operation_not_permitted(operation)
    if operation not in NEW_PROTECTION:
        return
    if version.exp is not None and now >= version.exp:
        raise errors.key_expired(operation)
    if version.nbf is not None and now < version.nbf:
        raise errors.key_not_yet_valid(operation)
