"""The sites of one store as the driver uses them: each lease with what its metadata key encrypts.

The only room of the driver that asks the key hierarchy for leases; names and records of a site
are set up once, when the first folder of it is opened.
"""

from fsdriver.folder import Site
from keyhierarchy.hierarchy import Hierarchy, SiteLease


class Sites:
    """Called with a site id, gives the site; raises what the key hierarchy raises."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy
        self._sites: dict[bytes, Site] = {}
        self._leases: dict[bytes, SiteLease] = {}

    def __call__(self, site_id: bytes) -> Site:
        site = self._sites.get(site_id)
        if site is None:
            lease = self._hierarchy.lease(site_id)
            site = self._sites[site_id] = Site(lease)
            self._leases[site_id] = lease
        return site

    def leases(self) -> list[SiteLease]:
        """Of every site that was used."""
        return list(self._leases.values())

    def lease(self, site_id: bytes) -> SiteLease:
        """Of a site that was used."""
        return self._leases[site_id]

    def lock(self, site_id: bytes) -> None:
        """Drop what was derived from the keys of a site whose lease ended."""
        self._sites[site_id].lock()
