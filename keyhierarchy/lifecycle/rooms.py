"""Where a verb gets its root keys: for wraps that exist, and for the wraps that it will make.

Only the protocol, so that the verbs can be tested with root keys that fail
on command. The real ones are put together in production.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from keyhierarchy.policy import DataEncryptionPolicy, TikWrap
    from keyhierarchy.rootkey import RootKey
    from keyhierarchy.roots.keyfacts import KeyFacts


class Rooms(Protocol):
    """The root keys of one host."""

    def existing(self, policy: DataEncryptionPolicy, wrap: TikWrap) -> RootKey | None:
        """Return the root of a service or vault wrap; None for every other slot."""
        ...

    def service(self, policy_id: str) -> RootKey:
        """Return the service-managed root; made now where this host has none."""
        ...

    def vault(self, policy_id: str, key_id: str) -> RootKey:
        """Return the root over a vault key, allowed already or not. Refuses a malformed id."""
        ...

    def allow(self, policy_id: str, slot: str, key_id: str) -> None:
        """Let this host's mounts use a vault key that was validated."""
        ...

    def facts(self, root: RootKey) -> KeyFacts:
        """Ask the vault what it says of the key behind `root`."""
        ...

    def new_availability(self, policy_id: str) -> RootKey:
        """Make a new availability key for the policy."""
        ...

    def availability(self, policy_id: str, key_id: str) -> RootKey:
        """Return an availability key that exists. Each use is for the caller to record."""
        ...

    def destroy_availability(self, policy_id: str) -> list[str]:
        """Destroy every availability key of the policy and return their ids."""
        ...

    def revoke_here(self, policy_id: str, reason: str) -> None:
        """Make this host's mounts stop opening the policy, at once."""
        ...

    def grant_here(self, policy_id: str) -> None:
        """Take `revoke_here` back."""
        ...

    def purge_waiting_seconds(self) -> float:
        """Return how long a purge waits, as the administrator of this host has set it."""
        ...
