"""The refusals of Key Vault: HTTP status, code, inner code and wording, and their JSON body.

    VaultError
    ├─ one function below for each refusal that the service is known to make
    └─ StateDamaged is not an answer to a client: the state folder cannot be trusted

The words follow recordings of the live service where one exists; where none was found the text is
this project's own. When a refusal is due is decided by the callers.
"""

from http import HTTPStatus
from typing import Any

DOCUMENTATION = "https://go.microsoft.com/fwlink/?linkid=2125182"


class StateDamaged(Exception):
    """A file of the state folder is missing, unreadable or not authentic."""


class VaultError(Exception):
    """An answer that refuses: raised anywhere below the request, rendered once in `app`."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        *,
        inner: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.inner = inner
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.inner is not None:
            error["innererror"] = {"code": self.inner}
        return {"error": error}


def forbidden(inner: str, message: str) -> VaultError:
    return VaultError(HTTPStatus.FORBIDDEN, "Forbidden", message, inner=inner)


def bad_parameter(message: str) -> VaultError:
    return VaultError(HTTPStatus.BAD_REQUEST, "BadParameter", message)


def key_not_found(name: str, version: str = "") -> VaultError:
    what = f"{name}/{version}" if version else name
    return VaultError(
        HTTPStatus.NOT_FOUND,
        "KeyNotFound",
        f"A key with (name/id) {what} was not found in this key vault. If you recently deleted "
        "this key you may be able to recover it using the correct recovery command. For help "
        f"resolving this issue, please see {DOCUMENTATION}",
    )


def deleted_key_not_found(name: str) -> VaultError:
    return VaultError(HTTPStatus.NOT_FOUND, "KeyNotFound", f"Deleted Key not found: {name}")


def unknown_route(method: str, path: str) -> VaultError:
    return VaultError(
        HTTPStatus.NOT_FOUND, "NotFound", f"No operation of this vault answers {method} {path}."
    )


def _conflict(inner: str, message: str) -> VaultError:
    return VaultError(HTTPStatus.CONFLICT, "Conflict", message, inner=inner)


def being_deleted(name: str) -> VaultError:
    return _conflict(
        "ObjectIsBeingDeleted",
        f"Key {name} is currently being deleted and cannot be re-created; retry later.",
    )


def being_recovered(name: str) -> VaultError:
    return _conflict(
        "ObjectIsBeingRecovered",
        f"Key {name} is currently being recovered and cannot be re-created; retry later.",
    )


def deleted_but_recoverable(name: str) -> VaultError:
    return _conflict(
        "ObjectIsDeletedButRecoverable",
        f"Key {name} is currently in a deleted but recoverable state, and its name cannot be "
        "reused; in this state, the key can only be recovered or purged.",
    )


def name_in_use(name: str) -> VaultError:
    return _conflict("KeyAlreadyExists", f"A key with name {name} already exists in this vault.")


def purge_protected(vault: str, location: str) -> VaultError:
    return VaultError(
        HTTPStatus.FORBIDDEN,
        "Forbidden",
        'Operation "purge" is not allowed because purge protection is enabled for this vault. '
        "Key Vault service will automatically purge it after the retention period has passed. "
        f"Vault: {vault};location={location}",
    )


def key_disabled(operation: str) -> VaultError:
    return forbidden("KeyDisabled", f"Operation {operation} is not allowed on a disabled key.")


def key_expired(operation: str) -> VaultError:
    return forbidden("KeyExpired", f"Operation {operation} is not allowed on an expired key.")


def key_not_yet_valid(operation: str) -> VaultError:
    return forbidden(
        "KeyNotYetValid", f"Operation {operation} is not allowed on a key that is not yet valid."
    )


def operation_not_permitted(operation: str) -> VaultError:
    return forbidden(
        "KeyOperationForbidden", f"Operation {operation} is not permitted on this key."
    )


def no_permission(caller: str, permission: str, vault: str, location: str) -> VaultError:
    return forbidden(
        "ForbiddenByPolicy",
        f"The user, group or application '{caller}' does not have keys {permission} permission on "
        f"key vault '{vault};location={location}'. For help resolving this issue, please see "
        f"{DOCUMENTATION}",
    )


def forbidden_by_rbac(caller: str, action: str, vault: str, location: str) -> VaultError:
    return forbidden(
        "ForbiddenByRbac",
        "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny "
        "assignments or role definitions were changed recently, please observe propagation time."
        f"\r\nCaller: {caller}\r\nAction: 'Microsoft.KeyVault/vaults/keys/{action}/action'\r\n"
        f"Vault: {vault};location={location}",
    )


def forbidden_by_firewall(address: str) -> VaultError:
    return forbidden(
        "ForbiddenByFirewall",
        "Client address is not authorized and caller is not a trusted service.\r\n"
        f"Client address: {address}",
    )


def access_denied() -> VaultError:
    return forbidden("AccessDenied", "Access denied to first party service for this key vault.")


def throttled(retry_after: int | None = None) -> VaultError:
    """The live service was recorded without Retry-After, so that is the default here."""
    return VaultError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Throttled",
        "Request was not processed because too many requests were received. "
        "Reason: VaultRequestTypeLimitReached",
        headers={} if retry_after is None else {"Retry-After": str(retry_after)},
    )


def server_trouble(status: HTTPStatus) -> VaultError:
    return VaultError(status, status.phrase.replace(" ", ""), f"The service said {status.phrase}.")


def managed_hsm_only(what: str) -> VaultError:
    return bad_parameter(f"{what} is supported by Managed HSM only, not by this key vault.")
