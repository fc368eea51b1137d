"""A store and its filesystem in this process, put together as a mount does it, without a transport.

What is measured here is the driver's own work: no kernel, no wake-ups, no second process.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from fsdriver import hardening, store
from fsdriver.backing import Backing
from fsdriver.filesystem import Filesystem
from fsdriver.namespace import Caller
from fsdriver.sessionbook import SessionBook
from fsdriver.sites import Sites
from fsdriver.startup import start
from fsdriver.tree import Tree
from keyhierarchy.hierarchy import Hierarchy
from keyhierarchy.statedir import store_folder

MEMORY = "/dev/shm"  # noqa: S108 a fresh folder is made in it
CREATED = "2026-01-01T00:00:00+00:00"


def memory_folder() -> str | None:
    """A tmpfs, where there is one: it shows the driver's cost, not the disk's."""
    return MEMORY if os.path.isdir(MEMORY) else None


class Unmounted:
    """One open store. `filesystem` is what a transport would serve."""

    def __init__(self, filesystem: Filesystem, hierarchy: Hierarchy) -> None:
        self.filesystem = filesystem
        self.caller = Caller(os.geteuid(), os.getegid())
        self._hierarchy = hierarchy

    def create(self, folder: int, name: bytes, content: bytes) -> int:
        """What a kernel asks of `open(O_CREAT), write, close`; returns the inode's number."""
        made, handle = self.filesystem.create(folder, name, 0o644, os.O_WRONLY, self.caller)
        self.filesystem.write(handle, 0, content)
        self.filesystem.flush(handle)
        self.filesystem.release(handle)
        return made.number

    def checkpoint(self) -> None:
        """What a mount does every few seconds; renews leases, too, if it is time."""
        if self.filesystem.checkpoints is not None:
            self.filesystem.checkpoints.run()
        for error in self._hierarchy.work_due():
            raise error


@contextmanager
def new_store(place: str, *, state_dir: str = "", chunk_size: int = 0) -> Iterator[Unmounted]:
    """A new store in `place`/store, under service-managed keys, closed as an unmount closes it.

    `chunk_size` 0 is the default of `ckfs init`.
    """
    folder, state = os.path.join(place, "store"), state_dir or os.path.join(place, "state")
    store.create(folder, state, chunk_size=chunk_size or store.DEFAULT_CHUNK_SIZE, created=CREATED)
    with opened(folder, state) as unmounted:
        yield unmounted


@contextmanager
def opened(folder: str, state_dir: str) -> Iterator[Unmounted]:
    """A store that is there, opened for writing."""
    document = store.load(folder)
    store_id, site_id = bytes.fromhex(document.store_id), bytes.fromhex(document.site_id)
    host_folder = store_folder(state_dir, store_id)
    with ExitStack() as undo:
        hierarchy = Hierarchy.open(store.control_folder(folder), state_dir, store_id)
        undo.callback(hierarchy.close)
        sites = Sites(hierarchy)
        sites.open(site_id)
        book = SessionBook(host_folder)
        session = book.begin(read_only=False, accepts_all=False)
        backing = Backing()
        root = backing.open_root(folder)
        key = sites.lease(site_id).metadata_key
        started = start(
            backing,
            root,
            key,
            session,
            host_folder,
            store_id,
            undo,
            sites.at_hand,
            read_only=False,
        )
        tree = Tree(
            backing,
            root,
            sites,
            chunk_size=document.chunk_size,
            plaintext_names=document.names == "plaintext",
            folders_open=hardening.folders_open(),
            session=session,
            entries=started.entries,
        )
        filesystem = Filesystem(tree)
        filesystem.checkpoints = started.checkpoints
        yield Unmounted(filesystem, hierarchy)
        filesystem.close()
        book.end(session)
