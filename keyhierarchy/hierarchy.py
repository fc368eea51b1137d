"""The mount's door to the keys: leases on site keys, renewed ahead of time, ended on refusal.

Opens the keystore of one store against what this host knows of it, and hands out one SiteLease for
each site. Renewal is called from the mount's control task; the data path looks only at a lease.
Changes no key: that is creation.py's and servicekeys.py's work.
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
    AnchorMismatch,
    KeyHierarchyError,
    PolicyPurged,
    RootKeyMissing,
    RootKeyRefused,
    RootKeyUnavailable,
    UnsafePermissions,
    WrappedKeyInvalid,
)
from keyhierarchy.lease import SiteLease
from keyhierarchy.servicekeys import service_roots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from keyhierarchy.audit import Outcome
    from keyhierarchy.keystore import Keystore, Section, SiteRecord
    from keyhierarchy.opening import RootSource

__all__ = ["DEFAULT_LEASE_SECONDS", "Hierarchy", "SiteLease", "create_store_keys"]

# A service-managed root is on this host, so a lease only has to outlive a disk's bad day.
DEFAULT_LEASE_SECONDS = 24 * 3600.0

# HIERARCHY.md 7.2: somebody or something says no, or a key was substituted. All else may pass, and
# a lease bridges it until its deadline.
_FINAL = (
    RootKeyRefused,
    RootKeyMissing,
    UnsafePermissions,
    PolicyPurged,
    AnchorMismatch,
    WrappedKeyInvalid,
)


class Hierarchy:
    """The keys of one store, for one process. Its methods may be called from any thread.

    `_opening` is held while keys are opened, which may wait for a root; `_state` only while leases
    change, so that `expire` and `close` never wait for a root that hangs.
    """

    def __init__(  # use `open`
        self,
        control_folder: str,
        state_dir: str,
        store_id: bytes,
        *,
        lease_seconds: float,
        clock: Callable[[], float],
        roots: RootSource,
    ) -> None:
        self.store_id = store_id
        self.lease_seconds = lease_seconds
        self.first_sight = False
        folder = statedir.store_folder(state_dir, store_id)
        self._control_folder = control_folder
        self._place = keystores.path(control_folder)
        self._clock = clock
        self._roots = roots
        self._anchor = anchors.AnchorFile(folder)
        self._audit = AuditLog(folder, store_id)
        self._leases: dict[bytes, SiteLease] = {}
        self._bridging: set[SiteLease] = set()
        self._opening = threading.Lock()
        self._state = threading.Lock()
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
        when its first lease is granted. `roots` builds the root keys, where not all are
        service-managed.
        """
        statedir.require_private(state_dir)
        statedir.refuse_inside_store(state_dir, os.path.dirname(os.path.abspath(control_folder)))
        hierarchy = cls(
            control_folder,
            state_dir,
            store_id,
            lease_seconds=lease_seconds,
            clock=clock,
            roots=roots or service_roots(state_dir),
        )
        hierarchy._read()
        return hierarchy

    def sites(self) -> list[SiteRecord]:
        """Return the records of all sites, as the keystore has them now; no seal is checked."""
        return [site for section in self._read().sections for site in section.sites]

    def lease(self, site_id: bytes) -> SiteLease:
        """Return the lease on a site, granted now if there is none yet or it has ended.

        Raises why it cannot be granted. No key is handed out without a record in the audit log.
        """
        lease = self._leases.get(site_id)
        if lease is not None and lease.valid:
            return lease
        with self._opening:
            keystore = self._read()
            section, site = keystore.find_site(site_id)
            if lease is None:
                lease = SiteLease(
                    site_id,
                    policy_id=section.policy.id,
                    root_directory_id=bytes.fromhex(site.root_directory_id),
                )
            try:
                self._fill(keystore, section, [(lease, site)])
            except KeyHierarchyError as error:
                self._record("site-key.open", "refused", lease, error)
                raise
            try:
                self._record("site-key.open", "ok", lease)
            except KeyHierarchyError as error:
                lease.end(error)
                raise
            # Into a new mapping, because others may be walking over the old one.
            self._leases = {**self._leases, site_id: lease}
            return lease

    def renew(self, lease: SiteLease) -> None:
        """Open the lease's keys anew and set its deadline forward; raise what kept it from that.

        An outage leaves the lease alone until its deadline, a refusal ends it at once; both have
        been acted on when this raises. A lease that had ended becomes valid again.
        """
        for trouble in self._renew([lease]):
            raise trouble

    def renew_all(self) -> list[KeyHierarchyError]:
        """Renew every lease, asking once for each policy; return what went wrong.

        Raises no KeyHierarchyError: the state of every lease is right when it returns.
        """
        return self._renew(list(self._leases.values()))

    def expire(self) -> list[SiteLease]:
        """End the leases whose deadline has passed and return them. Asks no root; does not wait.

        Raises only where the audit log cannot be written, with all of them ended.
        """
        with self._state:
            now = self._clock()
            late = [one for one in self._leases.values() if one.valid and now >= one.deadline]
            for lease in late:
                lease.end(self._expired(lease))
        for lease in late:
            self._record("lease.expire", "ok", lease)
        return late

    def close(self) -> None:
        """End every lease and drop the keys. May be called again. Does not wait for a root."""
        with self._state:
            if self._closed:
                return
            self._closed = True
            open_ones = [lease for lease in self._leases.values() if lease.valid]
            for lease in self._leases.values():
                lease.end(_closed(lease))
        for lease in open_ones:
            self._record("site-key.close", "ok", lease)

    def _renew(self, leases: Sequence[SiteLease]) -> list[KeyHierarchyError]:
        with self._opening:
            was_valid = {lease: lease.valid for lease in leases}
            try:
                keystore = self._read()
            except KeyHierarchyError as error:
                failed: dict[SiteLease, KeyHierarchyError] = dict.fromkeys(leases, error)
            else:
                failed = self._open_again(keystore, leases)
            troubles = [error.again() for error in dict.fromkeys(failed.values())]
            for lease in leases:
                try:
                    self._settle(lease, failed.get(lease), was_valid=was_valid[lease])
                except KeyHierarchyError as trouble:  # the log; the lease is in its right state
                    troubles.append(trouble.again())
            return troubles

    def _open_again(
        self, keystore: Keystore, leases: Sequence[SiteLease]
    ) -> dict[SiteLease, KeyHierarchyError]:
        """Fill the leases again, one policy after the other; return those that were not."""
        failed: dict[SiteLease, KeyHierarchyError] = {}
        by_policy: dict[str, tuple[Section, list[tuple[SiteLease, SiteRecord]]]] = {}
        for lease in leases:
            try:
                section, site = keystore.find_site(lease.site_id)
            except KeyHierarchyError as error:
                failed[lease] = error
            else:
                by_policy.setdefault(section.policy.id, (section, []))[1].append((lease, site))
        for section, members in by_policy.values():
            try:
                self._fill(keystore, section, members)
            except KeyHierarchyError as error:
                failed.update((lease, error) for lease, _ in members)
        return failed

    def _fill(
        self,
        keystore: Keystore,
        section: Section,
        members: Sequence[tuple[SiteLease, SiteRecord]],
    ) -> None:
        """Open everything from the root down, as if for the first time, and fill the leases.

        Because the keystore was read again, a mount follows what `ckfs-keys` did meanwhile.
        """
        known = self._anchor.load()
        pin = None
        if known is not None:
            pin = known.pin(section.policy.id)
            anchors.check_section(pin, section, self._place)
        asked_at = self._clock()
        tiks = opening.open_section(
            section, pin, store_id=self.store_id, roots=self._roots, place=self._place
        )
        opened = [(lease, site, *opening.open_site(site, tiks)) for lease, site in members]
        self._pin(keystore, anchors.pin_of(section), first=known is None)
        with self._state:
            for lease, site, wrappers, metadata_key in opened:
                if self._closed:
                    raise _closed(lease)
                lease.policy_id = section.policy.id
                lease.fill(
                    wrappers,
                    metadata_key,
                    generation=site.site_keys[-1].generation,
                    # From when the root was asked: an answer that took long is old already.
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
        self._anchor.change(lambda known: anchors.advance(known or anchors.trust(keystore), pin))

    def _read(self) -> Keystore:
        keystore = keystores.load(self._control_folder, self.store_id)
        known = self._anchor.load()
        if known is None:
            self.first_sight = True
            return keystore
        opening.require_log(known, self._audit)
        anchors.check_document(known, keystore, self._place)
        return keystore

    def _settle(
        self, lease: SiteLease, error: KeyHierarchyError | None, *, was_valid: bool
    ) -> None:
        """Act on the outcome of one renewal first, and tell the audit log what changed then."""
        if error is None:
            if not was_valid or lease in self._bridging:
                self._bridging.discard(lease)
                self._record("lease.restore", "ok", lease)
            return
        if isinstance(error, _FINAL):
            with self._state:
                lease.end(error)
            if was_valid:
                self._record("lease.end", "refused", lease, error)
        elif was_valid and self._clock() >= lease.deadline:
            with self._state:
                lease.end(error)
            self._record("lease.expire", "failed", lease, error)
        elif was_valid and lease not in self._bridging:
            self._bridging.add(lease)
            self._record("lease.bridge", "failed", lease, error)

    def _record(
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

    def _expired(self, lease: SiteLease) -> RootKeyUnavailable:
        return RootKeyUnavailable(
            f"the lease on site {lease.site_id.hex()} ended: its keys could not be renewed for "
            f"{self.lease_seconds:.0f} s; the audit log says why",
            site_id=lease.site_id.hex(),
            policy_id=lease.policy_id,
        )


def _closed(lease: SiteLease) -> RootKeyUnavailable:
    return RootKeyUnavailable(
        f"the keys of site {lease.site_id.hex()} were given back: the mount is ending; mount the "
        "store again",
        site_id=lease.site_id.hex(),
    )
