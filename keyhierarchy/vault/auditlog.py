"""One JSON line for each request that a vault answered, in the shape of Key Vault's AuditEvent log.

The file grows in the vault's folder until the administrator rotates it. No key bytes and no
plaintext get into it; the request address does, as in the service.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import msgspec

from keyhierarchy.vault.files import append_line
from keyhierarchy.vault.tokens import Claims

FILE_NAME = "audit.jsonl"
AUTHENTICATION = "Authentication"
_OID_CLAIM = "http://schemas.microsoft.com/identity/claims/objectidentifier"
_FIRST_FAILURE = 400


@dataclass
class Event:
    operation: str
    api_version: str
    request_uri: str
    object_id: str
    status: int
    description: str
    duration_ms: int
    caller_address: str
    correlation_id: str
    client_info: str
    claims: Claims | None


def render(event: Event, resource_id: str, moment: float) -> bytes:
    identity = {}
    if event.claims is not None:
        identity = {"claim": {_OID_CLAIM: event.claims.oid, "appid": event.claims.appid}}
    failed = event.status >= _FIRST_FAILURE
    return msgspec.json.encode(
        {
            "time": datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z"),
            "resourceId": resource_id,
            "operationName": event.operation,
            "operationVersion": event.api_version,
            "category": "AuditEvent",
            "resultType": "Failed" if failed else "Success",
            "resultSignature": HTTPStatus(event.status).phrase,
            "resultDescription": event.description,
            "durationMs": str(event.duration_ms),
            "callerIpAddress": event.caller_address,
            "correlationId": event.correlation_id,
            "identity": identity,
            "properties": {
                "id": event.object_id,
                "clientInfo": event.client_info,
                "requestUri": event.request_uri,
                "httpStatusCode": event.status,
            },
        }
    )


class AuditLog:
    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME

    def write(self, event: Event, resource_id: str, moment: float) -> None:
        append_line(self.path, render(event, resource_id, moment))
