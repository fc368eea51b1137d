"""Who may ask: client applications with a secret, and the words of an access policy.

A principal is an application registration of the local tenant. What it may do is in each vault's
access policies; tokens for it are made in `tokens`.
"""

import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Iterable

from keyhierarchy.vault.records import Installation, Principal, VaultProperties
from keyhierarchy.vault.routes import PERMISSIONS

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


def _digest(secret: str) -> bytes:
    # A plain hash is enough: the secret is 256 random bits, so there is nothing to guess.
    return hashlib.sha256(secret.encode()).digest()


def add_principal(installation: Installation, name: str) -> tuple[Principal, str]:
    """A new application and its secret, shown this once. ValueError for a name taken or unfit."""
    if not _NAME.fullmatch(name):  # it becomes the name of a file
        raise ValueError(f"{name!r} is no name for a principal: letters, digits, dots, hyphens")
    if any(each.name == name for each in installation.principals):
        raise ValueError(f"a principal named {name!r} exists already")
    secret = secrets.token_urlsafe(32)
    principal = Principal(
        name=name,
        client_id=str(uuid.uuid4()),
        object_id=str(uuid.uuid4()),
        secret_digest=_digest(secret),
    )
    installation.principals.append(principal)
    return principal, secret


def authenticate(installation: Installation, client_id: str, secret: str) -> Principal | None:
    for principal in installation.principals:
        if principal.client_id == client_id:
            matches = hmac.compare_digest(principal.secret_digest, _digest(secret))
            return principal if matches else None
    return None


def find_principal(installation: Installation, name_or_id: str) -> Principal:
    for principal in installation.principals:
        if name_or_id in (principal.name, principal.client_id, principal.object_id):
            return principal
    known = ", ".join(each.name for each in installation.principals) or "none"
    raise ValueError(f"no principal is called {name_or_id!r}; known: {known}")


def parse_permissions(words: Iterable[str]) -> list[str]:
    """Permission words in their proper spelling; `all` stands for every one of them."""
    spelled = {word.lower(): word for word in PERMISSIONS}
    chosen = []
    for word in words:
        if word.lower() == "all":
            return list(PERMISSIONS)
        if word.lower() not in spelled:
            raise ValueError(f"{word!r} is not a permission; known: all, {', '.join(PERMISSIONS)}")
        chosen.append(spelled[word.lower()])
    return sorted(set(chosen))


def is_allowed(properties: VaultProperties, object_id: str, permission: str) -> bool:
    return permission in properties.access_policies.get(object_id, [])
