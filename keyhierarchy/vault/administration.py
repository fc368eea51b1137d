"""What an administrator can do to a running or a stopped installation.

`admin_app` offers it to a running server's administrator over HTTPS; the CLI uses it directly when
nobody serves the folder. Clients of the vaults have no business here.
"""

from typing import Any

import msgspec

from keyhierarchy.vault.faults import Fault, FaultBoard, check_fault
from keyhierarchy.vault.principals import add_principal, find_principal, parse_permissions
from keyhierarchy.vault.records import VaultProperties
from keyhierarchy.vault.site import Client, Site
from keyhierarchy.vault.throttling import check_setting


class NewPrincipal(msgspec.Struct):
    name: str


class Grant(msgspec.Struct):
    """Replaces what the principal may do in the vault; an empty list takes everything away."""

    vault: str
    principal: str
    permissions: list[str]


class Settings(msgspec.Struct):
    """Members left out stay as they are."""

    vault: str
    delete_seconds: float | None = None
    recover_seconds: float | None = None
    throttle: str | None = None


class ClearFaults(msgspec.Struct):
    id: int | None = None


class ClockOffset(msgspec.Struct):
    """Sets the offset, or with `advance` adds to it."""

    seconds: float
    advance: bool = False


class Nothing(msgspec.Struct):
    """A request that needs no words."""


class Administration:
    """Each method takes one request value and gives a JSON-able answer; ValueError refuses."""

    def __init__(self, site: Site, board: FaultBoard) -> None:
        self._site = site
        self._board = board

    def add_principal(self, request: NewPrincipal) -> Any:
        principal, secret = add_principal(self._site.installation, request.name)
        self._site.save_installation()
        self._site.save_client(principal, secret)
        tenant = self._site.installation.tenant_id
        return msgspec.to_builtins(Client(principal.name, tenant, principal.client_id, secret))

    def grant(self, request: Grant) -> Any:
        principal = find_principal(self._site.installation, request.principal)
        permissions = parse_permissions(request.permissions)

        def change(properties: VaultProperties) -> None:
            if permissions:
                properties.access_policies[principal.object_id] = permissions
            else:
                properties.access_policies.pop(principal.object_id, None)

        self._ring(request.vault).configure(change)
        return {"vault": request.vault, "principal": principal.name, "permissions": permissions}

    def configure(self, request: Settings) -> Any:
        if request.throttle is not None:
            check_setting(request.throttle)

        def change(properties: VaultProperties) -> None:
            for member in ("delete_seconds", "recover_seconds", "throttle"):
                value = getattr(request, member)
                if value is not None:
                    setattr(properties, member, value)

        self._ring(request.vault).configure(change)
        return {"vault": request.vault}

    def set_fault(self, request: Fault) -> Any:
        check_fault(request, list(self._site.vaults))
        return msgspec.to_builtins(self._board.set(request))

    def clear_faults(self, request: ClearFaults) -> Any:
        return {"cleared": self._board.clear(request.id)}

    def list_faults(self, _request: Nothing) -> Any:
        return {"faults": msgspec.to_builtins(self._board.faults)}

    def set_clock(self, request: ClockOffset) -> Any:
        clock = self._site.clock
        clock.offset_seconds = request.seconds + (clock.offset_seconds if request.advance else 0)
        return {"offset_seconds": clock.offset_seconds}

    def show(self, _request: Nothing) -> Any:
        installation = self._site.installation
        names = {each.object_id: each.name for each in installation.principals}
        vaults = []
        for ring in self._site.vaults.values():
            properties = ring.properties
            shown = msgspec.to_builtins(properties)
            shown["host"] = f"{properties.name}.{installation.domain_of(properties.kind)}"
            shown["recovery_level"] = properties.recovery_level
            shown["keys"] = sum(1 for _ in ring.live_keys())
            shown["deleted_keys"] = sum(1 for _ in ring.deleted_keys())
            shown["access_policies"] = {
                names.get(oid, oid): words for oid, words in properties.access_policies.items()
            }
            vaults.append(shown)
        principals = [
            {"name": each.name, "client_id": each.client_id, "object_id": each.object_id}
            for each in installation.principals
        ]
        return {"tenant_id": installation.tenant_id, "principals": principals, "vaults": vaults}

    def _ring(self, vault: str) -> Any:
        if vault not in self._site.vaults:
            raise ValueError(f"no vault is called {vault!r}; known: {', '.join(self._site.vaults)}")
        return self._site.vaults[vault]


# Each command of the administration: the path on the wire, the request's shape, the method's name.
COMMANDS: dict[str, tuple[type[msgspec.Struct], str]] = {
    "principal-add": (NewPrincipal, "add_principal"),
    "grant": (Grant, "grant"),
    "configure": (Settings, "configure"),
    "fault-set": (Fault, "set_fault"),
    "fault-clear": (ClearFaults, "clear_faults"),
    "fault-list": (Nothing, "list_faults"),
    "clock": (ClockOffset, "set_clock"),
    "show": (Nothing, "show"),
}


def run_command(administration: Administration, command: str, body: bytes) -> Any:
    """ValueError for an unknown command, a malformed request or a refusal."""
    if command not in COMMANDS:
        raise ValueError(f"{command!r} is not a command; known: {', '.join(COMMANDS)}")
    shape, method = COMMANDS[command]
    try:
        request = msgspec.json.decode(body or b"{}", type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{command}: {error}") from error
    return getattr(administration, method)(request)
