"""The mount's door to the keys: leases on site keys, renewed ahead of time, ended on refusal.

Opens the keystore of one store against what this host knows of it, and hands out one SiteLease for
each site. Renewal is called from the mount's control task; the data path looks only at a lease.
Changes no key: that is creation.py's and, later, lifecycle.py's work.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Self

from keyhierarchy import anchor as anchors
from keyhierarchy import keystore as keystores
from keyhierarchy import opening, statedir
from keyhierarchy.audit import AuditLog
from keyhierarchy.creation import create_store_keys
from keyhierarchy.errors import (
    AuditChainBroken,
    KeyHierarchyError,
    RootKeyUnavailable,
    StorageUnavailable,
)
from keyhierarchy.lease import SiteLease

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyhierarchy.audit import Outcome
    from keyhierarchy.keystore import Keystore, SiteRecord
    from keyhierarchy.opening import RootSource
    from keyhierarchy.policy import DataEncryptionPolicy, TikWrap
    from keyhierarchy.rootkey import RootKey

__all__ = ["DEFAULT_LEASE_SECONDS", "Hierarchy", "SiteLease", "create_store_keys"]

# A service-managed root is on this host, so a lease only has to outlive a disk's bad day.
DEFAULT_LEASE_SECONDS = 24 * 3600.0
# These can pass by themselves; a lease bridges them until its deadline.
_PASSING = (RootKeyUnavailable, StorageUnavailable)


class Hierarchy:
    """The keys of one store, for one process. Its methods may be called from any thread."""

    def __init__(  # use `open`; the arguments are what it has checked
        self,
        control_folder: str,
        folder: str,
        store_id: bytes,
        *,
        lease_seconds: float,
        clock: Callable[[], float],
        roots: RootSource,
    ) -> None:
        self.store_id = store_id
        self.lease_seconds = lease_seconds
        self.first_sight = False
        self._control_folder = control_folder
        self._place = keystores.path(control_folder)
        self._clock = clock
        self._roots = roots
        self._anchor = anchors.AnchorFile(folder)
        self._audit = AuditLog(folder, store_id)
        self._leases: dict[bytes, SiteLease] = {}
        self._bridging: set[str] = set()  # policies whose root does not answer just now
        self._lock = threading.RLock()
        self._closed = False

    @classmethod
    def open(
        cls,
        control_folder: str,
        state_dir: str,
        store_id: bytes,
        *,
        lease_seconds: float = DEFAULT_LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        roots: RootSource | None = None,
    ) -> Self:
        """Read the keystore and compare it with the anchor. Opens no key yet.

        `first_sight` of the result says that this host has never seen the store and will trust it
        when its first lease is granted. `roots` builds root keys other than service-managed ones.
        """
        statedir.refuse_inside_store(state_dir, os.path.dirname(os.path.abspath(control_folder)))
        hierarchy = cls(
            control_folder,
            statedir.store_folder(state_dir, store_id),
            store_id,
            lease_seconds=lease_seconds,
            clock=clock,
            roots=roots or service_roots(state_dir),
        )
        hierarchy._read()
        return hierarchy

    def sites(self) -> list[SiteRecord]:
        """Return the records of all sites, as the keystore has them now."""
        return [site for section in self._read().sections for site in section.sites]

    def lease(self, site_id: bytes) -> SiteLease:
        """Return the lease on a site, granted now if there is none yet or it has ended."""
        with self._lock:
            lease = self._leases.get(site_id)
            if lease is not None and lease.valid:
                return lease
            section, site = self._read().find_site(site_id)
            if lease is None:
                lease = SiteLease(
                    site_id,
                    policy_id=section.policy.id,
                    root_directory_id=bytes.fromhex(site.root_directory_id),
                )
            try:
                self._grant(lease)
            except KeyHierarchyError as error:
                self._tell("site-key.open", "refused", lease, error)
                raise
            self._leases[site_id] = lease
            self._tell("site-key.open", "ok", lease)
            return lease

    def renew(self, lease: SiteLease) -> None:
        """Open the lease's keys anew and set its deadline forward.

        Raises what went wrong, after acting on it: an outage leaves the lease alone until its
        deadline; anything else ends it at once. A lease that had ended becomes valid again.
        """
        with self._lock:
            if self._closed:
                lease.require_valid()
            was_valid = lease.valid
            try:
                self._grant(lease)
            except KeyHierarchyError as error:
                self._renewal_failed(lease, error, was_valid=was_valid)
                raise
            recovered = not was_valid or lease.policy_id in self._bridging
            self._bridging.discard(lease.policy_id)
            if recovered:
                self._tell("lease.restore", "ok", lease)

    def renew_all(self) -> list[KeyHierarchyError]:
        """Renew every lease; return what went wrong, one error for each lease that was not renewed.

        Raises nothing of this package's tree: the state of every lease is right when it returns.
        """
        troubles: list[KeyHierarchyError] = []
        for lease in list(self._leases.values()):
            try:
                self.renew(lease)
            except KeyHierarchyError as error:
                troubles.append(error.again())
        return troubles

    def expire(self) -> list[SiteLease]:
        """End the leases whose deadline has passed, without asking any root; return those."""
        ended = []
        with self._lock:
            for lease in self._leases.values():
                if lease.valid and self._clock() >= lease.deadline:
                    error = RootKeyUnavailable(
                        f"the lease on site {lease.site_id.hex()} ended: its keys could not be "
                        f"renewed for {self.lease_seconds:.0f} s; see the audit log for why",
                        site_id=lease.site_id.hex(),
                        policy_id=lease.policy_id,
                    )
                    lease.end(error)
                    ended.append(lease)
            for lease in ended:
                self._tell("lease.expire", "ok", lease)
        return ended

    def close(self) -> None:
        """End every lease and drop the keys. May be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            leases = list(self._leases.values())
            for lease in leases:
                lease.end(RootKeyUnavailable("the mount is being closed; mount the store again"))
            for lease in leases:
                self._tell("site-key.close", "ok", lease)

    def _grant(self, lease: SiteLease) -> None:
        """Open everything from the root down, as if for the first time, and fill the lease.

        Reading the keystore again is what makes a mount follow a roll that `ckfs-keys` did.
        """
        keystore = self._read()
        section, site = keystore.find_site(lease.site_id)
        known = self._anchor.load()
        pin = None
        if known is not None:
            pin = known.pin(section.policy.id)
            anchors.check_section(pin, section, self._place)
        asked_at = self._clock()
        tiks = opening.open_section(
            section, pin, store_id=self.store_id, roots=self._roots, place=self._place
        )
        wrappers, metadata_key = opening.open_site(site, tiks)
        self._pin(keystore, anchors.pin_of(section), first=known is None)
        lease.policy_id = section.policy.id
        lease.fill(
            wrappers,
            metadata_key,
            generation=site.site_keys[-1].generation,
            deadline=asked_at + self.lease_seconds,
        )

    def _pin(self, keystore: Keystore, pin: anchors.PolicyPin, *, first: bool) -> None:
        """Remember what was just proved, if it is news; a forgery never comes this far."""
        if first:
            self._audit.append(
                "store.trust",
                "ok",
                policy_id=pin.policy_id,
                generation=keystore.generation,
                reason="this host sees the store for the first time and trusts it",
            )
        self._anchor.change(
            lambda known: anchors.advance(known or anchors.trust(keystore), keystore, pin)
        )

    def _read(self) -> Keystore:
        keystore = keystores.load(self._control_folder, self.store_id)
        known = self._anchor.load()
        if known is None:
            self.first_sight = True
            return keystore
        if self._audit.head().count == 0:
            # Every store that has an anchor has a first record: it was written before the anchor.
            raise AuditChainBroken(
                f"the audit log {self._audit.path} of a store that this host knows is gone; put it "
                "back from a backup, or go on with a new one: ckfs-keys audit restart",
                place=self._audit.path,
            )
        anchors.check_document(known, keystore, self._place)
        return keystore

    def _renewal_failed(
        self, lease: SiteLease, error: KeyHierarchyError, *, was_valid: bool
    ) -> None:
        """Let an outage pass until the deadline; end the lease on anything else, before telling."""
        if isinstance(error, _PASSING):
            if was_valid and self._clock() >= lease.deadline:
                lease.end(error)
                self._tell("lease.expire", "failed", lease, error)
            elif was_valid and lease.policy_id not in self._bridging:
                self._bridging.add(lease.policy_id)
                self._tell("lease.bridge", "failed", lease, error)
            return
        lease.end(error)
        if was_valid:
            self._tell("lease.end", "refused", lease, error)

    def _tell(
        self,
        event: str,
        outcome: Outcome,
        lease: SiteLease,
        error: KeyHierarchyError | None = None,
    ) -> None:
        self._audit.append(
            event,
            outcome,
            policy_id=lease.policy_id,
            site_id=lease.site_id.hex(),
            key_id=None if error is None else error.key_id,
            generation=lease.generation or None,
            reason="" if error is None else f"{type(error).__name__}: {error}",
        )


def service_roots(state_dir: str) -> RootSource:
    """Return the source of service-managed root keys; it declines every other slot."""

    def source(policy: DataEncryptionPolicy, wrap: TikWrap) -> RootKey | None:
        from keyhierarchy.roots.service_managed import ServiceManagedRoot  # noqa: PLC0415 - on demand

        if wrap.slot != "service":
            return None
        return ServiceManagedRoot(statedir.service_keys_folder(state_dir), policy.id)

    return source
