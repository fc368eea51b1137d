"""Faults that a test has switched on, and which of them strikes a given request. Pure bookkeeping.

A fault names a vault (or the authority, `login`) and an operation, `*` for any, and lasts for a
number of requests or until it is cleared. Carrying it out is work of `app` (answers) and of `serve`
(certificates).
"""

from http import HTTPStatus
from typing import Literal, get_args

import msgspec

from keyhierarchy.vault import errors
from keyhierarchy.vault.identifiers import AUTHORITY_LABEL
from keyhierarchy.vault.routes import OPERATIONS

FaultKind = Literal[
    "latency",
    "slow",
    "drop",
    "hang",
    "401",
    "claims",
    "429",
    "500",
    "502",
    "503",
    "ForbiddenByPolicy",
    "ForbiddenByRbac",
    "ForbiddenByFirewall",
    "AccessDenied",
    "KeyDisabled",
    "wrong-kid",
    "wrong-value",
    "short-page",
    "tls-expired",
    "tls-untrusted",
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

# A machine that is slow, gone or broken is so before anybody has shown a token.
BEFORE_AUTHENTICATION = frozenset({"latency", "drop", "hang", "429", "500", "502", "503"})
AFTER_AUTHENTICATION = frozenset(
    {"ForbiddenByPolicy", "ForbiddenByRbac", "ForbiddenByFirewall", "AccessDenied", "KeyDisabled"}
)
TLS_FAULTS = frozenset({"tls-expired", "tls-untrusted"})
ANY = "*"
# Requests for tokens go to the authority, which is addressed like a vault with one operation.
TOKEN_OPERATION = "token"  # noqa: S105 - the name of an operation
_TIMED = frozenset({"latency", "slow"})


class Fault(msgspec.Struct):
    """`count` None: until cleared. `seconds`: of delay. `retry_after`: for 429, 5xx and 403."""

    kind: FaultKind
    vault: str = ANY
    operation: str = ANY
    count: int | None = None
    seconds: float = 0.0
    retry_after: int | None = None
    id: int = 0
    struck: int = 0


def check_fault(fault: Fault, vaults: list[str]) -> None:
    """ValueError that says what is wrong, so that a typing error does not pass for a fault set."""
    if fault.vault not in (ANY, AUTHORITY_LABEL, *vaults):
        raise ValueError(f"no vault is called {fault.vault!r}; known: {', '.join(vaults)}, *")
    if fault.operation not in (ANY, TOKEN_OPERATION, *OPERATIONS):
        raise ValueError(
            f"{fault.operation!r} is not an operation; known: *, {', '.join(OPERATIONS)}"
        )
    if fault.count is not None and fault.count < 1:
        raise ValueError("a count is at least 1; leave it out for 'until cleared'")
    if fault.kind in _TIMED and fault.seconds <= 0:
        raise ValueError(f"{fault.kind} needs its seconds")


class FaultBoard:
    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._next_id = 1

    def set(self, fault: Fault) -> Fault:
        fault.id = self._next_id
        self._next_id += 1
        self.faults.append(fault)
        return fault

    def clear(self, fault_id: int | None = None) -> int:
        """How many were cleared; None clears all."""
        before = len(self.faults)
        keep = [each for each in self.faults if fault_id is not None and each.id != fault_id]
        self.faults = keep
        return before - len(keep)

    def strike(self, vault: str, operation: str, *, authenticated: bool) -> list[Fault]:
        """The faults for one request, counted down.

        A request without a token is the client's question for the challenge: it meets lasting
        faults of the machine, but does not use up a count that is meant for the real request.
        """
        found = []
        for fault in list(self.faults):
            if fault.kind in TLS_FAULTS or not _matches(fault, vault, operation):
                continue
            if authenticated:
                self._count_down(fault)
            elif fault.count is not None or fault.kind not in BEFORE_AUTHENTICATION:
                continue
            found.append(fault)
        return found

    def certificate_fault(self, vault: str) -> Fault | None:
        """Asked once for each TLS handshake."""
        for fault in self.faults:
            if fault.kind in TLS_FAULTS and _names(fault, vault):
                self._count_down(fault)
                return fault
        return None

    def _count_down(self, fault: Fault) -> None:
        fault.struck += 1
        if fault.count is not None and fault.struck >= fault.count:
            self.faults.remove(fault)


def _matches(fault: Fault, vault: str, operation: str) -> bool:
    return _names(fault, vault) and fault.operation in (ANY, operation)


def _names(fault: Fault, vault: str) -> bool:
    """`*` means every vault; the authority is another service and has to be named."""
    return fault.vault == vault or (fault.vault == ANY and vault != AUTHORITY_LABEL)


def refusal(
    fault: Fault, *, caller: str, address: str, vault: str, location: str, permission: str
) -> errors.VaultError | None:
    """The error that this fault answers with, or None when it is not that kind of fault."""
    match fault.kind:
        case "429":
            return errors.throttled(fault.retry_after)
        case "500" | "502" | "503":
            error = errors.server_trouble(HTTPStatus(int(fault.kind)))
        case "ForbiddenByPolicy":
            error = errors.no_permission(caller, permission, vault, location)
        case "ForbiddenByRbac":
            error = errors.forbidden_by_rbac(caller, permission, vault, location)
        case "ForbiddenByFirewall":
            error = errors.forbidden_by_firewall(address)
        case "AccessDenied":
            error = errors.access_denied()
        case "KeyDisabled":
            error = errors.key_disabled(permission)
        case _:
            return None
    if fault.retry_after is not None:
        error.headers["Retry-After"] = str(fault.retry_after)
    return error
