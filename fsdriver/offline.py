"""A store opened with its keys and without a mount: for work on a whole store.

Takes no lock, so it can stand beside a live mount; whoever changes the store takes the lock himself
(storelock.py). Reads only: what a stopped driver left behind is recovered by a mount.
"""

import os
import time
from contextlib import ExitStack
from typing import Final, Self

from fsdriver import refusals, store, storelock
from fsdriver.backing import Backing
from fsdriver.folder import Site
from fsdriver.format.geometry import Geometry
from fsdriver.sessionbook import SessionBook
from fsdriver.sites import Sites
from fsdriver.store import StoreDocument
from keyhierarchy import statedir
from keyhierarchy.errors import KeyHierarchyError
from keyhierarchy.hierarchy import Hierarchy

_ASK_AGAIN: Final = 30.0
"""Seconds after which a key that did not open is asked for again."""


class _Sites(Sites):
    """Asks again only after a while for what did not open: a thousand folders may need it."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        super().__init__(hierarchy)
        self._refused: dict[bytes, tuple[float, KeyHierarchyError]] = {}

    def open(self, site_id: bytes) -> Site:
        until, reason = self._refused.get(site_id, (0.0, None))
        if reason is not None and time.monotonic() < until:
            raise reason.again()
        try:
            return super().open(site_id)
        except KeyHierarchyError as error:
            self._refused[site_id] = (time.monotonic() + _ASK_AGAIN, error.again())
            raise


class OfflineStore:
    """What reading a store needs: its document, keys, folder and the host's knowledge of it."""

    def __init__(
        self, path: str, state_dir: str, document: StoreDocument, hierarchy: Hierarchy
    ) -> None:
        """Use `open`."""
        self.path = path
        self.state_dir = state_dir
        self.document = document
        self.hierarchy = hierarchy
        self.sites: Sites = _Sites(hierarchy)
        self.backing = Backing()
        self.root = -1
        self.holds_lock = False
        """Whether whoever opened it took the store's lock, and so is its one driver."""
        self.geometry = Geometry(document.chunk_size)
        self.plaintext_names = document.names == "plaintext"
        self.host_folder = statedir.store_folder(state_dir, bytes.fromhex(document.store_id))

    @classmethod
    def open(cls, path: str, state_dir: str) -> Self:
        """Raises StoreError, or an error of the key hierarchy, when store or keys do not open."""
        path = os.path.abspath(path)
        document = store.load(path)
        with ExitStack() as undo:
            hierarchy = Hierarchy.open(
                store.control_folder(path), state_dir, bytes.fromhex(document.store_id)
            )
            undo.callback(hierarchy.close)
            opened = cls(path, state_dir, document, hierarchy)
            root_site = bytes.fromhex(document.site_id)
            opened.sites.open(root_site)
            document.check(opened.sites.lease(root_site).metadata_key)
            with refusals.storage(path):
                opened.root = opened.backing.open_root(path)
            undo.pop_all()
        return opened

    def close(self) -> None:
        """Give keys and descriptors back."""
        self.backing.close(self.root)
        self.hierarchy.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def store_id(self) -> bytes:
        """16 bytes."""
        return bytes.fromhex(self.document.store_id)

    def keep_keys(self) -> list[KeyHierarchyError]:
        """What a mount's control task does: renew what is due, end what ran out or was revoked.

        To be called from time to time in long work; returns what went wrong. A lease that ended
        raises at its next use.
        """
        self.hierarchy.check_revocation()
        troubles = [] if self.hierarchy.seconds_until_due() else self.hierarchy.work_due()
        self.hierarchy.expire()
        return troubles

    def is_mounted(self) -> bool:
        """Whether another driver holds the store at this moment."""
        return not self.holds_lock and storelock.is_held(self.path)

    def was_killed(self) -> bool:
        """Whether the last driver neither ended nor is at work: the next mount puts that right."""
        return bool(SessionBook(self.host_folder).running()) and not self.is_mounted()

    def unended(self) -> frozenset[bytes]:
        """Sessions that this host knows as not ended, the running one among them."""
        return SessionBook(self.host_folder).begin(read_only=True, accepts_all=False).unended

    def open_folder(self, place: str) -> int:
        """A descriptor of a backing folder, relative to the store; follows no symlink.

        Raises OSError.
        """
        descriptor = self.backing.duplicate(self.root)
        for part in filter(None, place.split("/")):
            try:
                below = self.backing.open_directory(descriptor, part)
            finally:
                self.backing.close(descriptor)
            descriptor = below
        return descriptor

    def stat(self, place: str) -> os.stat_result:
        """Of an entry itself, relative to the store; raises OSError."""
        above, _slash, text = place.rpartition("/")
        folder = self.open_folder(above)
        try:
            return self.backing.stat(folder, text)
        finally:
            self.backing.close(folder)

    def read_symlink(self, place: str) -> str:
        """The text of a backing symlink, relative to the store; raises OSError."""
        above, _slash, text = place.rpartition("/")
        folder = self.open_folder(above)
        try:
            return self.backing.read_symlink(folder, text)
        finally:
            self.backing.close(folder)

    def open_file(self, place: str) -> int:
        """A descriptor of a backing file for reading, relative to the store; raises OSError."""
        above, _slash, text = place.rpartition("/")
        folder = self.open_folder(above)
        try:
            return self.backing.open_file(folder, text, writable=False)
        finally:
            self.backing.close(folder)
