"""Speaks to the administration endpoint of a running server; used by the CLI, the demo and tests.

Reads address, admin token and CA from the installation's folder, so it works for whoever may read
that folder, and for nobody else.
"""

import http.client
from pathlib import Path
from typing import Any

import msgspec

from keyhierarchy.vault.certificates import client_context
from keyhierarchy.vault.faults import Fault, FaultKind
from keyhierarchy.vault.site import load_running, read_admin_token

_TIMEOUT_SECONDS = 30.0


class NotRunning(Exception):
    """No server answers for this folder."""


class AdminClient:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def command(self, name: str, /, **request: Any) -> Any:
        """One command of `administration.COMMANDS`. ValueError carries the server's refusal."""
        running = load_running(self._folder)
        if running is None:
            raise NotRunning(f"no server runs on {self._folder}")
        connection = http.client.HTTPSConnection(
            "127.0.0.1",
            running.admin_port,
            timeout=_TIMEOUT_SECONDS,
            context=client_context(self._folder),
        )
        headers = {"Authorization": f"Bearer {read_admin_token(self._folder)}"}
        try:
            connection.request("POST", f"/{name}", msgspec.json.encode(request), headers)
            response = connection.getresponse()
            answer = msgspec.json.decode(response.read())
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            raise NotRunning(f"the server on {self._folder} does not answer: {error}") from error
        finally:
            connection.close()
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def set_fault(
        self,
        kind: FaultKind,
        *,
        vault: str = "*",
        operation: str = "*",
        count: int | None = None,
        seconds: float = 0.0,
        retry_after: int | None = None,
    ) -> Fault:
        answer = self.command(
            "fault-set",
            kind=kind,
            vault=vault,
            operation=operation,
            count=count,
            seconds=seconds,
            retry_after=retry_after,
        )
        return msgspec.convert(answer, Fault)

    def clear_faults(self, fault_id: int | None = None) -> None:
        self.command("fault-clear", id=fault_id)

    def faults(self) -> list[Fault]:
        return msgspec.convert(self.command("fault-list")["faults"], list[Fault])

    def grant(self, vault: str, principal: str, permissions: list[str]) -> None:
        """Replaces the principal's permissions in the vault; an empty list revokes them all."""
        self.command("grant", vault=vault, principal=principal, permissions=permissions)

    def skew_clock(self, seconds: float) -> None:
        self.command("clock", seconds=seconds)

    def advance_clock(self, seconds: float) -> None:
        self.command("clock", seconds=seconds, advance=True)

    def configure(
        self,
        vault: str,
        *,
        delete_seconds: float | None = None,
        recover_seconds: float | None = None,
        throttle: str | None = None,
    ) -> None:
        self.command(
            "configure",
            vault=vault,
            delete_seconds=delete_seconds,
            recover_seconds=recover_seconds,
            throttle=throttle,
        )
