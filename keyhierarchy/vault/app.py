"""The HTTP face of the vaults: one request in, one answer with the service's headers out.

Finds the vault by host name, lets `exchange` do the work, renders refusals, writes the audit line
and carries out faults that break the answer itself. An error inside becomes a 500, never more.
"""

import time
import traceback
import uuid
from http import HTTPStatus
from sys import stderr

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route as HttpRoute

from keyhierarchy.vault import authority, exchange
from keyhierarchy.vault.auditlog import Event
from keyhierarchy.vault.broken_answers import CutConnection, Silence, dribble
from keyhierarchy.vault.errors import VaultError
from keyhierarchy.vault.exchange import Exchange
from keyhierarchy.vault.faults import TOKEN_OPERATION, FaultBoard, refusal
from keyhierarchy.vault.identifiers import AUTHORITY_LABEL
from keyhierarchy.vault.site import Site

LARGEST_BODY = 1 << 20
SERVICE_VERSION = "1.9.0.0"
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_JSON = "application/json; charset=utf-8"


class VaultApp:
    def __init__(self, site: Site, board: FaultBoard) -> None:
        self._site = site
        self._board = board
        route = HttpRoute("/{path:path}", self.answer, methods=_METHODS)
        self.starlette = Starlette(routes=[route])

    async def answer(self, request: Request) -> Response:
        host = request.headers.get("host", "")
        body = await _read_body(request)
        if body is None:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            return JSONResponse(VaultError(status, "BadParameter", "Too long.").body(), status)
        if self._site.is_authority(host):
            return await self._answer_as_authority(request, body)
        vault = self._site.vault_at(host)
        if vault is None:
            known = ", ".join(self._site.vaults)
            error = VaultError(
                HTTPStatus.NOT_FOUND,
                "VaultNotFound",
                f"No vault answers at '{host}'. The vaults here are: {known}; address them as "
                f"NAME.{self._site.installation.domain}.",
            )
            return JSONResponse(error.body(), error.status)
        return await self._answer_as_vault(Exchange(self._site, vault, request, body, host.lower()))

    async def _answer_as_authority(self, request: Request, body: bytes) -> Response:
        struck = self._board.strike(AUTHORITY_LABEL, TOKEN_OPERATION, authenticated=True)
        stand_in = Exchange(self._site, "", request, body, "", struck=struck)
        await exchange.sit_out_latency(stand_in)
        broken = _broken_answer(stand_in)
        if broken is not None:
            return broken
        for fault in struck:
            error = refusal(
                fault, caller="", address="", vault=AUTHORITY_LABEL, location="", permission="token"
            )
            if error is not None:
                return JSONResponse({"error": error.code}, error.status, error.headers)
        return authority.answer(self._site, request, body)

    async def _answer_as_vault(self, call: Exchange) -> Response:
        started = time.monotonic()
        request_id = str(uuid.uuid4())
        description = ""
        headers: dict[str, str] = {}
        await exchange.meet_faults(call, self._board)
        broken = _broken_answer(call)
        if broken is not None:
            return broken
        try:
            document = await exchange.perform(call)
            status = HTTPStatus.OK if document is not None else HTTPStatus.NO_CONTENT
            content = exchange.render(document)
        except VaultError as error:
            status, description, headers = error.status, error.message, error.headers
            content = exchange.render(error.body())
        except Exception:  # noqa: BLE001 - the door: one bad request must not end the server
            stderr.write(f"request {request_id} failed:\n{traceback.format_exc()}")
            status, description = HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error."
            failure = VaultError(status, "InternalServerError", f"Internal error, id {request_id}.")
            content = exchange.render(failure.body())
        headers = headers | self._headers(call, request_id)
        self._log(call, request_id, status, description, started)
        slow = call.has("slow")
        if slow is not None:
            headers["Content-Length"] = str(len(content))
            return StreamingResponse(dribble(content, slow.seconds), status, headers)
        return Response(content, status, headers)

    def _headers(self, call: Exchange, request_id: str) -> dict[str, str]:
        return {
            "Content-Type": _JSON,
            "Cache-Control": "no-cache",
            "Pragma": "no-cache",
            "Expires": "-1",
            "x-ms-keyvault-region": call.ring.properties.location,
            "x-ms-client-request-id": _client_request_id(call.request) or request_id,
            "x-ms-request-id": request_id,
            "x-ms-keyvault-service-version": SERVICE_VERSION,
            "x-ms-keyvault-network-info": (
                f"conn_type=Ipv4;addr={call.client_address};act_addr_fam=InterNetwork;"
            ),
            "X-Content-Type-Options": "nosniff",
            "Strict-Transport-Security": "max-age=31536000;includeSubDomains",
        }

    def _log(
        self, call: Exchange, request_id: str, status: int, description: str, started: float
    ) -> None:
        request = call.request
        event = Event(
            operation=call.audit_name,
            api_version=request.query_params.get("api-version", ""),
            request_uri=str(request.url),
            object_id=f"{call.vault_url}{request.url.path}",
            status=status,
            description=description,
            duration_ms=round((time.monotonic() - started) * 1000),
            caller_address=call.client_address,
            correlation_id=_client_request_id(request) or request_id,
            client_info=request.headers.get("user-agent", ""),
            claims=call.claims,
        )
        resource_id = call.ring.properties.resource_id
        self._site.audit[call.vault].write(event, resource_id, self._site.clock.now())


def _client_request_id(request: Request) -> str:
    return request.headers.get("x-ms-client-request-id", "")


async def _read_body(request: Request) -> bytes | None:
    """None when the body is longer than any request of a real client."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            return None
    return body


def _broken_answer(call: Exchange) -> Response | None:
    if call.has("drop"):
        return CutConnection()
    if call.has("hang"):
        return Silence()
    return None
