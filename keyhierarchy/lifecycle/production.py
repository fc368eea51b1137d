"""The real root keys of a host: its service keys, its vaults, its availability store.

Puts together what other rooms make; the verbs see only the Rooms protocol.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, cast

from keyhierarchy import administration, customerkeys, revocation, servicekeys, statedir
from keyhierarchy.errors import TransitionRefused
from keyhierarchy.roots.availability import AvailabilityStore

if TYPE_CHECKING:
    from keyhierarchy.customerkeys import VaultRoots
    from keyhierarchy.policy import DataEncryptionPolicy, TikWrap
    from keyhierarchy.rootkey import RootKey
    from keyhierarchy.roots.keyfacts import KeyFacts

AVAILABILITY_ENVIRONMENT = "CKFS_AVAILABILITY_DIR"


def default_availability_dir(state_dir: str) -> str:
    """Return where availability keys are: beside the state folder, never in it."""
    given = os.environ.get(AVAILABILITY_ENVIRONMENT)
    return os.path.abspath(given) if given else state_dir.rstrip("/") + "-availability"


class HostRooms:
    """The root keys of this host. Reads the administrator's settings anew at each use."""

    def __init__(
        self, state_dir: str, availability_dir: str, store: str, vaults: VaultRoots | None = None
    ) -> None:
        statedir.refuse_inside_store(availability_dir, store)
        # A mount reads the state folder, and must not come near the availability key.
        if os.path.commonpath(
            [os.path.realpath(state_dir), os.path.realpath(availability_dir)]
        ) == os.path.realpath(state_dir):
            raise TransitionRefused(
                f"the availability store {availability_dir} lies in the state folder {state_dir}, "
                "which mounts read; choose another place with --availability-dir"
            )
        self._state_dir = state_dir
        self._availability = AvailabilityStore(availability_dir)
        self._vaults = vaults or customerkeys.VaultRoots(state_dir)
        self._roots = customerkeys.all_roots(state_dir, self._vaults)

    def existing(self, policy: DataEncryptionPolicy, wrap: TikWrap) -> RootKey | None:
        """Return the root of a service or vault wrap; None for every other slot."""
        return self._roots(policy, wrap)

    def service(self, policy_id: str) -> RootKey:
        """Return the service-managed root; made now where this host has none."""
        servicekeys.ensure_service_key(self._state_dir)
        return servicekeys.service_root(self._state_dir, policy_id)

    def vault(self, policy_id: str, key_id: str) -> RootKey:
        """Return the root over a vault key, allowed already or not."""
        del policy_id
        return self._vaults.root(key_id)

    def allow(self, policy_id: str, slot: str, key_id: str) -> None:
        """Let this host's mounts use a vault key that was validated."""
        administration.allow(
            self._state_dir,
            key_id,
            policy_id=policy_id,
            slot=cast('Literal["primary", "secondary"]', slot),
        )

    def facts(self, root: RootKey) -> KeyFacts:
        """Ask the vault what it says of the key behind `root`."""
        return self._vaults.root(root.key_id).facts()

    def new_availability(self, policy_id: str) -> RootKey:
        """Make a new availability key for the policy."""
        return self._availability.create(policy_id)

    def availability(self, policy_id: str, key_id: str) -> RootKey:
        """Return an availability key that exists."""
        return self._availability.root(policy_id, key_id)

    def destroy_availability(self, policy_id: str) -> list[str]:
        """Destroy every availability key of the policy and return their ids."""
        return self._availability.destroy(policy_id)

    def revoke_here(self, policy_id: str, reason: str) -> None:
        """Make this host's mounts stop opening the policy, at once."""
        revocation.set(self._state_dir, policy_id, reason)

    def grant_here(self, policy_id: str) -> None:
        """Take `revoke_here` back."""
        revocation.clear(self._state_dir, policy_id)

    def purge_waiting_seconds(self) -> float:
        """Return how long a purge waits, as the administrator of this host has set it."""
        return administration.load(self._state_dir).settings.purge_waiting_seconds
