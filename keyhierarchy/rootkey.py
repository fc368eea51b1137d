"""What every root key can do, wherever it lives: a file of this host, a vault, an HSM.

Only the protocol. An object is built for one data encryption policy, so a wrap needs no
further context; what the wrap contains is the root's own matter. Builds nothing, reads nothing.
"""

from __future__ import annotations

from typing import Protocol


class RootKey(Protocol):
    """Wraps tenant intermediate keys and nothing else."""

    @property
    def key_id(self) -> str:
        """Name the key, and its version, that `wrap` uses. Printable ASCII, no secret."""
        ...

    def wrap(self, key: bytes) -> bytes:
        """Wrap 32 bytes. Raise RootKeyUnavailable, -Refused or -Missing."""
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return the 32 bytes. As `wrap`, and WrappedKeyInvalid where it does not open."""
        ...

    def probe(self) -> None:
        """Do a round trip on a throw-away value; return only if the key can be used now."""
        ...
