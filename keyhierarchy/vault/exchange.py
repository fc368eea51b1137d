"""The steps that turn one request to a vault into a document: who, what, allowed, and the work.

In the service's order: token, permission, limits, then the operation. Faults that a test has
switched on strike between token and permission. Headers, logging and broken answers are in `app`.
"""

import base64
from dataclasses import dataclass, field

import msgspec
import trio
from starlette.requests import Request

from keyhierarchy.vault import errors, faults, handlers_crypto, handlers_life, throttling, tokens
from keyhierarchy.vault.auditlog import AUTHENTICATION
from keyhierarchy.vault.calls import Call, Document
from keyhierarchy.vault.identifiers import AUTHORITY_LABEL, split_host
from keyhierarchy.vault.keyring import Keyring
from keyhierarchy.vault.principals import is_allowed
from keyhierarchy.vault.records import KeyVersion
from keyhierarchy.vault.routes import Route, match
from keyhierarchy.vault.site import Site
from keyhierarchy.vault.tokens import Claims

API_VERSIONS = frozenset(
    {
        *("2025-07-01", "2025-06-01-preview", "7.6", "7.6-preview.2", "7.6-preview.1"),
        *("7.5", "7.5-preview.1", "7.4", "7.4-preview.1", "7.3", "7.2", "7.1", "7.0"),
        "2016-10-01",
    }
)
_HANDLERS = handlers_life.HANDLERS | handlers_crypto.HANDLERS
# What the service asks for when it wants a token made after a moment: continuous access evaluation.
_NEWER_TOKEN = b'{"access_token":{"nbf":{"essential":true,"value":"%d"}}}'


@dataclass
class Exchange:
    """One request and what has become known of it; `app` logs from here, whatever happened."""

    site: Site
    vault: str
    request: Request
    body: bytes
    host: str
    audit_name: str = AUTHENTICATION
    claims: Claims | None = None
    struck: list[faults.Fault] = field(default_factory=list)

    @property
    def ring(self) -> Keyring:
        return self.site.vaults[self.vault]

    @property
    def route(self) -> Route | None:
        return match(self.request.method, self.request.url.path)

    @property
    def vault_url(self) -> str:
        return f"https://{self.host}"

    @property
    def client_address(self) -> str:
        return self.request.client.host if self.request.client else ""

    def has(self, kind: faults.FaultKind) -> faults.Fault | None:
        return next((fault for fault in self.struck if fault.kind == kind), None)

    @property
    def resource(self) -> str:
        """The audience of tokens: domain and port by which the client checks the challenge."""
        _, port = split_host(self.host)
        domain = self.site.installation.domain_of(self.ring.properties.kind)
        return f"https://{domain}{port}"

    def challenge(self) -> str:
        _, port = split_host(self.host)
        installation = self.site.installation
        authority = f"https://{AUTHORITY_LABEL}.{installation.domain}{port}"
        return (
            f'Bearer authorization="{authority}/{installation.tenant_id}", '
            f'resource="{self.resource}"'
        )


async def meet_faults(exchange: Exchange, board: faults.FaultBoard) -> None:
    """Finds out which faults strike this request, and sits out a latency."""
    route = exchange.route
    operation = route.operation.name if route else ""
    authenticated = bool(_bearer(exchange.request))
    exchange.struck = board.strike(exchange.vault, operation, authenticated=authenticated)
    await sit_out_latency(exchange)


async def sit_out_latency(exchange: Exchange) -> None:
    latency = exchange.has("latency")
    if latency is not None:
        await trio.sleep(latency.seconds)


async def perform(exchange: Exchange) -> Document | None:
    """The document to answer, None for 204. VaultError is the refusal to render."""
    _strike(exchange, faults.BEFORE_AUTHENTICATION)
    exchange.claims = _authenticate(exchange)
    route = exchange.route
    if route is None:
        raise errors.unknown_route(exchange.request.method, exchange.request.url.path)
    exchange.audit_name = route.operation.audit_name
    if exchange.request.query_params.get("api-version") not in API_VERSIONS:
        raise errors.bad_parameter(
            "The request needs the query parameter api-version with a version that is known here."
        )
    _strike(exchange, faults.AFTER_AUTHENTICATION)
    _authorize(exchange, route)
    _admit(exchange, route)
    document = await _HANDLERS[route.operation.name](
        Call(
            ring=exchange.ring,
            vault_url=exchange.vault_url,
            route=route,
            query=exchange.request.query_params,
            body=exchange.body,
            now=exchange.site.clock.now(),
        )
    )
    return _spoil(exchange, document)


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _authenticate(exchange: Exchange) -> Claims:
    """The caller's claims, or 401 with the challenge that tells where to get a token."""
    site, challenge = exchange.site, exchange.challenge()
    token = _bearer(exchange.request)
    try:
        if not token:
            raise tokens.unauthorized("AKV10000: Request is missing a Bearer or PoP token.")
        if exchange.has("401"):
            raise tokens.unauthorized("AKV10000: The token was refused by a fault that is set.")
        if exchange.has("claims"):
            challenge = _claims_challenge(exchange)
            raise tokens.unauthorized("AKV10000: Continuous access evaluation wants a new token.")
        return site.tokens.check(token, site.installation.tenant_id, exchange.resource)
    except errors.VaultError as error:
        error.headers["WWW-Authenticate"] = challenge
        raise


def _claims_challenge(exchange: Exchange) -> str:
    claims = base64.b64encode(_NEWER_TOKEN % int(exchange.site.clock.now())).decode()
    return (
        f'Bearer realm="", authorization_uri="{exchange.vault_url}", '
        f'error="insufficient_claims", claims="{claims}"'
    )


def _strike(exchange: Exchange, kinds: frozenset[str]) -> None:
    properties, route, claims = exchange.ring.properties, exchange.route, exchange.claims
    for fault in exchange.struck:
        if fault.kind not in kinds:
            continue
        error = faults.refusal(
            fault,
            caller=claims.caller if claims else "",
            address=exchange.client_address,
            vault=properties.name,
            location=properties.location,
            permission=route.operation.permission if route else "",
        )
        if error is not None:
            raise error


def _authorize(exchange: Exchange, route: Route) -> None:
    claims, properties = exchange.claims, exchange.ring.properties
    permission = route.operation.permission
    if claims is None or not is_allowed(properties, claims.oid, permission):
        caller = claims.caller if claims else ""
        raise errors.no_permission(caller, permission, properties.name, properties.location)


def _admit(exchange: Exchange, route: Route) -> None:
    setting = exchange.ring.properties.throttle
    if setting == throttling.OFF:
        return
    if setting != throttling.SERVICE:
        limit = int(setting)
    elif route.operation.name in ("create", "import", "rotate"):
        limit = throttling.creation_limit(hardware=_makes_hardware_key(exchange, route))
    else:
        limit = throttling.use_limit(_version_used(exchange.ring, route))
    throttle = exchange.site.throttles[exchange.vault]
    if not throttle.admit(exchange.site.clock.now(), limit):
        raise errors.throttled()


def _makes_hardware_key(exchange: Exchange, route: Route) -> bool:
    if route.operation.name == "rotate":
        version = _version_used(exchange.ring, route)
        return version is not None and version.in_hardware
    # The body is not parsed yet, and a refused request need not be: its words are enough here.
    return exchange.ring.properties.kind == "hsm" or b"-HSM" in exchange.body


def _version_used(ring: Keyring, route: Route) -> KeyVersion | None:
    if route.operation.name not in (*handlers_crypto.HANDLERS, "rotate") or not route.key:
        return None
    try:
        return ring.version(route.key, route.version)
    except errors.VaultError:
        return None


def _spoil(exchange: Exchange, document: Document | None) -> Document | None:
    """The answer after faults that falsify it; each leaves it well-formed."""
    if document is None:
        return None
    if exchange.has("wrong-kid"):
        # Another version of the same key: the kind of mix-up that only a comparison finds.
        holder = document.get("key", document)
        if "kid" in holder:
            holder["kid"] = holder["kid"].rpartition("/")[0] + "/" + "0" * 32
    if exchange.has("wrong-value"):
        value = document.get("value")
        if isinstance(value, bool):
            document["value"] = not value
        elif isinstance(value, str) and value:
            document["value"] = ("B" if value[0] == "A" else "A") + value[1:]
    if exchange.has("short-page") and isinstance(document.get("value"), list):
        document = {"value": [], "nextLink": str(exchange.request.url)}
    return document


def render(document: Document | None) -> bytes:
    return b"" if document is None else msgspec.json.encode(document)
