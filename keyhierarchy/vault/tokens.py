"""Bearer tokens: made by the local authority, checked by the vaults. JWTs under one HMAC key.

Key Vault's own tokens are RSA-signed by Entra ID; clients treat them as opaque, and here the same
server makes and checks them, so a shared key is enough and no key has to be published.
"""

import hashlib
import hmac
import time
from http import HTTPStatus
from typing import Any

import msgspec

from keyhierarchy.vault.clock import Clock
from keyhierarchy.vault.errors import VaultError
from keyhierarchy.vault.identifiers import from_base64url, to_base64url
from keyhierarchy.vault.records import Principal

# What the real authority was recorded to give: a day less one second.
LIFETIME_SECONDS = 86399
_HEADER = to_base64url(b'{"alg":"HS256","typ":"JWT"}')


class Claims(msgspec.Struct):
    aud: str
    iss: str
    iat: int
    nbf: int
    exp: int
    appid: str
    oid: str
    tid: str
    ver: str = "1.0"

    @property
    def caller(self) -> str:
        """The words by which the service names a caller in its refusals."""
        return f"appid={self.appid};oid={self.oid};iss={self.iss}"


def issuer_of(tenant_id: str) -> str:
    return f"https://sts.windows.net/{tenant_id}/"


class Tokens:
    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def issue(self, principal: Principal, tenant_id: str, audience: str) -> str:
        # Made by true time: a skewed vault must not be able to hide behind a skewed authority.
        now = int(time.time())
        claims = Claims(
            aud=audience,
            iss=issuer_of(tenant_id),
            iat=now,
            nbf=now - 300,
            exp=now + LIFETIME_SECONDS,
            appid=principal.client_id,
            oid=principal.object_id,
            tid=tenant_id,
        )
        signed = f"{_HEADER}.{to_base64url(msgspec.json.encode(claims))}"
        return f"{signed}.{to_base64url(self._mac(signed))}"

    def check(self, token: str, tenant_id: str, audience: str) -> Claims:
        """VaultError 401 without a challenge header; the caller adds the one of its vault."""
        claims = self._parse(token)
        if claims.iss != issuer_of(tenant_id):
            raise unauthorized(
                f"AKV10032: Invalid issuer. Expected one of {issuer_of(tenant_id)}, "
                f"found {claims.iss}."
            )
        if claims.aud.rstrip("/") != audience:
            raise unauthorized(
                f"AKV10022: Invalid audience. Expected {audience}, found: {claims.aud}."
            )
        now = self._clock.now()
        if not claims.nbf <= now < claims.exp:
            raise unauthorized("The token has expired or is not valid yet.")
        return claims

    def _parse(self, token: str) -> Claims:
        signed, _, mac = token.rpartition(".")
        try:
            authentic = hmac.compare_digest(self._mac(signed), from_base64url(mac))
            payload: Any = from_base64url(signed.partition(".")[2])
            if authentic:
                return msgspec.json.decode(payload, type=Claims)
        except (ValueError, msgspec.DecodeError, RecursionError):
            pass
        raise unauthorized("AKV10046: Unable to resolve the key used for signature validation.")

    def _mac(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode(errors="replace"), hashlib.sha256)


def unauthorized(message: str) -> VaultError:
    return VaultError(HTTPStatus.UNAUTHORIZED, "Unauthorized", message)
