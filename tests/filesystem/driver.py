"""A store and its filesystem without a mount, for tests that call the operations directly."""

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress

from fsdriver import store
from fsdriver.backing import Backing
from fsdriver.filesystem import Filesystem
from fsdriver.inodes import ROOT, Inode
from fsdriver.namespace import Caller
from fsdriver.sessionbook import SessionBook
from fsdriver.sites import Sites
from fsdriver.startup import start
from fsdriver.tree import Tree
from keyhierarchy.hierarchy import Hierarchy
from keyhierarchy.statedir import store_folder

CALLER = Caller(os.geteuid(), os.getegid())


def _in_memory() -> str | None:
    """Where many stores are made and nothing has to last; None: where temporary files go."""
    place = "/dev/shm"  # noqa: S108 a fresh folder is made in it
    with suppress(OSError), tempfile.NamedTemporaryFile(dir=place) as file:
        os.setxattr(file.name, b"user.ckfs", b"")
        return place
    return None


IN_MEMORY = _in_memory()


class Driver:
    """One store that can be opened, closed, and dropped as a killed driver drops it."""

    def __init__(
        self,
        folder: str,
        *,
        chunk_size: int = 4096,
        plaintext_names: bool = False,
        backing: Backing | None = None,
    ) -> None:
        self.store = os.path.join(folder, "store")
        self.state_dir = os.path.join(folder, "state")
        self.backing = backing or Backing()
        self._closed = True
        store.create(
            self.store,
            self.state_dir,
            chunk_size=chunk_size,
            plaintext_names=plaintext_names,
            created="2026-11-21T00:00:00+00:00",
        )
        self.open()

    def open(
        self,
        *,
        read_only: bool = False,
        recover: bool = False,
        report: Callable[[Inode, Exception], None] = lambda _inode, _error: None,
    ) -> None:
        document = store.load(self.store)
        self.hierarchy = Hierarchy.open(
            store.control_folder(self.store), self.state_dir, bytes.fromhex(document.store_id)
        )
        document.check(self.hierarchy.lease(bytes.fromhex(document.site_id)).metadata_key)
        self.book = SessionBook(store_folder(self.state_dir, bytes.fromhex(document.store_id)))
        self.session = self.book.begin(read_only=read_only, accepts_all=recover)
        self._undo = ExitStack()
        store_id = bytes.fromhex(document.store_id)
        root = self.backing.open_root(self.store)
        sites = Sites(self.hierarchy)
        try:
            started = start(
                self.backing,
                root,
                self.hierarchy.lease(bytes.fromhex(document.site_id)).metadata_key,
                self.session,
                store_folder(self.state_dir, store_id),
                store_id,
                self._undo,
                sites.at_hand,
                read_only=read_only,
            )
        except BaseException:
            self._undo.close()
            self.backing.close(root)
            self.hierarchy.close()
            raise
        self.entries = started.entries
        self.tree = Tree(
            self.backing,
            root,
            sites,
            chunk_size=document.chunk_size,
            plaintext_names=document.names == "plaintext",
            folders_open=16,
            session=self.session,
            entries=started.entries,
            report=report,
        )
        self.fs = Filesystem(self.tree, read_only=read_only)
        self.fs.checkpoints = started.checkpoints
        self._closed = False

    def checkpoint(self) -> None:
        """What was changed so far is in its place, on the disk, and known to the host."""
        assert self.fs.checkpoints is not None
        self.fs.checkpoints.run()

    def close(self) -> None:
        """As an unmount does it: what is not on the disk for good has not ended."""
        if self._closed:
            return
        self._closed = True
        try:
            self.fs.close()
            if self.fs.checkpoints is not None and not self.session.broken:
                self.book.end(self.session)
        except OSError:
            pass
        self._undo.close()
        self.hierarchy.close()

    def drop(self) -> None:
        """What SIGKILL leaves: nothing sealed, every descriptor closed by the system."""
        if self._closed:
            return
        self._closed = True
        self.tree.close()
        self._undo.close()
        self.hierarchy.close()

    def reopen(self) -> None:
        self.close()
        self.open()

    # Paths, for tests that do not care about inode numbers

    def number(self, path: str) -> int:
        number = ROOT
        for part in path.strip("/").split("/"):
            if part:
                number = self.fs.lookup(number, os.fsencode(part)).number
        return number

    def split(self, path: str) -> tuple[int, bytes]:
        parent, _slash, name = path.strip("/").rpartition("/")
        return self.number(parent), os.fsencode(name)

    def write_file(self, path: str, content: bytes, *, offset: int = 0) -> None:
        parent, name = self.split(path)
        try:
            handle = self.fs.open(self.fs.lookup(parent, name).number, os.O_WRONLY)
        except FileNotFoundError:
            _attributes, handle = self.fs.create(parent, name, 0o644, os.O_WRONLY, CALLER)
        try:
            self.fs.write(handle, offset, content)
            self.fs.flush(handle)
        finally:
            self.fs.release(handle)

    def read_file(self, path: str) -> bytes:
        number = self.number(path)
        handle = self.fs.open(number, os.O_RDONLY)
        try:
            return bytes(self.fs.read(handle, 0, self.fs.getattr(number).size))
        finally:
            self.fs.release(handle)

    def mkdir(self, path: str) -> int:
        return self.fs.mkdir(*self.split(path), 0o755, CALLER).number

    def names(self, number: int = ROOT) -> dict[bytes, int]:
        """Name -> inode number of a folder, without the dots."""
        handle = self.fs.opendir(number)
        found = {}
        for name, attributes, _next in self.fs.readdir(handle, 0):
            if name not in (b".", b".."):
                self.fs.count_lookup(attributes.number)
                found[name] = attributes.number
        self.fs.releasedir(handle)
        return found

    def backing_path(self, path: str) -> str:
        return os.path.join(self.store, self.fs.backing_path(self.number(path)))

    def is_folder(self, number: int) -> bool:
        return stat.S_ISDIR(self.fs.getattr(number).mode)
