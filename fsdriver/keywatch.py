"""The tasks that keep a mount's leases, and act when one ends or comes back.

They run beside the transport; whatever may wait, for a root key or for the kernel, is done on a
worker thread, so that no request ever waits for a key. The data path only looks at the lease's
flag, which the key hierarchy turns.
"""

from contextlib import AbstractContextManager
from typing import Final, Protocol

import trio

from fsdriver import logs
from fsdriver.filesystem import Filesystem
from fsdriver.sites import Sites
from keyhierarchy.errors import KeyHierarchyError
from keyhierarchy.hierarchy import Hierarchy

_LOOK_SECONDS: Final = 1.0
_SHORTEST_SECONDS: Final = 0.05


class Transport(Protocol):
    """What the watch needs of one."""

    def exclusive(self) -> AbstractContextManager[None]:
        """The filesystem to oneself, between two requests."""
        ...

    def drop_caches(self, known: list[tuple[int, int, bytes]]) -> None:
        """Make the kernel ask again; on a worker thread only."""
        ...


class KeyWatch:
    """Of one mount."""

    def __init__(
        self,
        hierarchy: Hierarchy,
        sites: Sites,
        filesystem: Filesystem,
        transport: Transport,
    ) -> None:
        self._hierarchy = hierarchy
        self._sites = sites
        self._filesystem = filesystem
        self._transport = transport
        self._locked: set[bytes] = set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew)
            nursery.start_soon(self._look)

    async def _renew(self) -> None:
        """Ahead of time: what is due of renewals and of probes of the root keys."""
        while True:
            # An unmount does not wait for a root key that hangs.
            for error in await trio.to_thread.run_sync(
                self._hierarchy.work_due, abandon_on_cancel=True
            ):
                logs.error("key trouble", kind=type(error).__name__, reason=str(error))
            for site_id in list(self._sites.wanted):
                try:
                    await trio.to_thread.run_sync(self._sites.open, site_id, abandon_on_cancel=True)
                except KeyHierarchyError as error:
                    self._sites.wanted.discard(site_id)
                    logs.error("key trouble", kind=type(error).__name__, reason=str(error))
            pause = self._hierarchy.seconds_until_due()
            await trio.sleep(max(_SHORTEST_SECONDS, min(pause, _LOOK_SECONDS)))

    async def _look(self) -> None:
        """A renewal may hang on its root key; what ran out or was revoked ends all the same."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            for look in (self._hierarchy.expire, self._hierarchy.check_revocation):
                try:
                    look()
                except KeyHierarchyError as error:
                    logs.error("key trouble", kind=type(error).__name__, reason=str(error))
            for lease in self._sites.leases():
                if lease.valid:
                    if lease.site_id in self._locked:
                        self._locked.discard(lease.site_id)
                        logs.info("site unlocked", site=lease.site_id.hex())
                elif lease.site_id not in self._locked:
                    await self._lock(lease.site_id)

    async def _lock(self, site_id: bytes) -> None:
        """Every operation is refused from here on; then the kernel loses what it has cached."""
        self._locked.add(site_id)
        self._sites.lock(site_id)
        with self._transport.exclusive():
            known = self._filesystem.lock_site(site_id)
        await trio.to_thread.run_sync(self._transport.drop_caches, known)
        logs.error("site locked", site=site_id.hex(), dropped=len(known))
