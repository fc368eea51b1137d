"""The sites of one store as the driver uses them: each lease with what its metadata key encrypts.

The only room of the driver that asks the key hierarchy for leases. A policy that no lease has
opened yet may have to ask a vault; on a mount no request waits for that: it is refused, and what
it wanted is opened on a worker thread (keywatch.py).
"""

from fsdriver.folder import Site
from keyhierarchy.errors import KeyHierarchyError, RootKeyUnavailable
from keyhierarchy.hierarchy import Hierarchy, SiteLease


class Sites:
    """Called with a site id, gives the site; raises what the key hierarchy raises."""

    def __init__(self, hierarchy: Hierarchy, *, waits: bool = True) -> None:
        self._hierarchy = hierarchy
        self._waits = waits
        self._sites: dict[bytes, Site] = {}
        self._leases: dict[bytes, SiteLease] = {}
        self.wanted: set[bytes] = set()
        """Sites that a request came for, and whose policy is not open."""

    def __call__(self, site_id: bytes) -> Site:
        site = self._sites.get(site_id)
        if site is None:
            if not self._waits and not self._is_open(site_id):
                self.wanted.add(site_id)
                raise RootKeyUnavailable(
                    f"the policy of site {site_id.hex()} is being opened; try again in a moment, "
                    "and look at `ckfs status` if it does not come"
                )
            site = self.open(site_id)
        return site

    def _is_open(self, site_id: bytes) -> bool:
        """Whether a lease on another site holds the keys that this one needs."""
        policies = {bytes.fromhex(one.site_id): one.policy_id for one in self._hierarchy.sites()}
        wanted = policies.get(site_id)
        return wanted is None or any(
            lease.valid and lease.policy_id == wanted for lease in self._leases.values()
        )

    def open(self, site_id: bytes) -> Site:
        """Lease a site; may wait for a root key."""
        lease = self._hierarchy.lease(site_id)
        self._leases[site_id] = lease
        self.wanted.discard(site_id)
        return self._sites.setdefault(site_id, Site(lease))

    def at_hand(self, site_id: bytes) -> SiteLease | None:
        """The lease of a site whose keys can be had now, without waiting on a mount."""
        try:
            lease = self(site_id).lease
        except KeyHierarchyError:
            return None
        return self._leases[site_id] if lease.valid else None

    def open_policies(self) -> list[KeyHierarchyError]:
        """One site of each policy, before the mount answers; returns what did not open."""
        troubles = []
        opened = {lease.policy_id for lease in self._leases.values()}
        for record in self._hierarchy.sites():
            if record.policy_id not in opened:
                opened.add(record.policy_id)
                try:
                    self.open(bytes.fromhex(record.site_id))
                except KeyHierarchyError as error:
                    troubles.append(error)
        return troubles

    def leases(self) -> list[SiteLease]:
        """Of every site that was used."""
        return list(self._leases.values())

    def lease(self, site_id: bytes) -> SiteLease:
        """Of a site that was used."""
        return self._leases[site_id]

    def lock(self, site_id: bytes) -> None:
        """Drop what was derived from the keys of a site whose lease ended."""
        self._sites[site_id].lock()
