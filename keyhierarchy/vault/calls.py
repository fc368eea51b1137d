"""One request to a vault, after routing and authentication, as the handlers see it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keyhierarchy.vault.keyring import Keyring
from keyhierarchy.vault.routes import Route

Document = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """`vault_url` is scheme, host and port as the client wrote them; `now` the server's clock."""

    ring: Keyring
    vault_url: str
    route: Route
    query: Mapping[str, str]
    body: bytes
    now: float

    @property
    def is_hsm(self) -> bool:
        return self.ring.properties.kind == "hsm"


# A handler answers a document, or None for 204. It is atomic except where it awaits.
Handler = Callable[[Call], Awaitable[Document | None]]
