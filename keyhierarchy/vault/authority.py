"""The local stand-in for Entra ID: discovery documents and the token endpoint.

What a client asks of it was read in msal and azure-identity and tried: with instance discovery
switched off they get TENANT/v2.0/.well-known/openid-configuration from the authority host and post
to the token endpoint named there. The tenant word `adfs` makes msal skip instance discovery by
itself, so it is answered too, as another name of the one tenant.
"""

from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from keyhierarchy.vault.principals import authenticate
from keyhierarchy.vault.site import Site
from keyhierarchy.vault.tokens import LIFETIME_SECONDS

ADFS = "adfs"
_DISCOVERY = ".well-known/openid-configuration"
_DEFAULT_SCOPE = "/.default"


def _error(code: str, description: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> Response:
    return JSONResponse({"error": code, "error_description": description}, status)


def _discovery(host: str, tenant: str) -> Response:
    base = f"https://{host}/{tenant}"
    oauth = f"{base}/oauth2" if tenant == ADFS else f"{base}/oauth2/v2.0"
    return JSONResponse(
        {
            "issuer": base if tenant == ADFS else f"{base}/v2.0",
            "authorization_endpoint": f"{oauth}/authorize",
            "token_endpoint": f"{oauth}/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["pairwise"],
            "scopes_supported": [],
        }
    )


def _token(site: Site, form: dict[str, str]) -> Response:
    if form.get("grant_type") != "client_credentials":
        return _error("unsupported_grant_type", "AADSTS70003: only client_credentials is served.")
    scope = form.get("scope", "").split(" ")[0]
    resource = scope.removesuffix(_DEFAULT_SCOPE) or form.get("resource", "")
    if not resource.startswith("https://"):
        return _error("invalid_scope", f"AADSTS70011: The scope {scope} is not valid.")
    client_id = form.get("client_id", "")
    secret = form.get("client_secret", "")
    principal = authenticate(site.installation, client_id, secret)
    if principal is None:
        return _error(
            "invalid_client",
            f"AADSTS7000215: Invalid client secret or unknown application '{client_id}'.",
            HTTPStatus.UNAUTHORIZED,
        )
    return JSONResponse(
        {
            "token_type": "Bearer",
            "expires_in": LIFETIME_SECONDS,
            "ext_expires_in": LIFETIME_SECONDS,
            "access_token": site.tokens.issue(
                principal, site.installation.tenant_id, resource.rstrip("/")
            ),
        },
        headers={"Cache-Control": "no-store", "Pragma": "no-cache"},
    )


def answer(site: Site, request: Request, body: bytes) -> Response:
    tenant, _, rest = request.url.path.removeprefix("/").partition("/")
    if tenant.lower() not in (site.installation.tenant_id, ADFS):
        return _error("invalid_tenant", f"AADSTS90002: Tenant '{tenant}' not found.")
    if request.method == "GET" and rest in (_DISCOVERY, f"v2.0/{_DISCOVERY}"):
        return _discovery(request.headers.get("host", ""), tenant.lower())
    if request.method == "POST" and rest in ("oauth2/v2.0/token", "oauth2/token"):
        return _token(site, dict(parse_qsl(body.decode("ascii", "replace"))))
    return _error(
        "invalid_request", f"No endpoint of the authority at /{rest}.", HTTPStatus.NOT_FOUND
    )
