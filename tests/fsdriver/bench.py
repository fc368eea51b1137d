"""One file in a store of its own, with a journal but no names, and what a stop leaves of it."""

import os
import pathlib
import shutil
import types
from contextlib import ExitStack

from fsdriver import oldjournals
from fsdriver.backing import Backing
from fsdriver.buffers import Buffers
from fsdriver.folder import CONTROL_FOLDER
from fsdriver.folding import Folding
from fsdriver.journal import FILES, Journal
from fsdriver.openfile import OpenFile
from fsdriver.recovery import recover
from fsdriver.replay import Replayed, replay
from fsdriver.sealedfile import SealedFile
from fsdriver.sessions import Session
from keyhierarchy.wrapping import FileKeyWrapper

SIZE = 4096
STRIDE = 4136
METADATA_KEY = bytes(range(32))
BINDING = b"b" * 16


class Lease(types.SimpleNamespace):
    """The keys of a site that is always there."""

    def __init__(self) -> None:
        wrapper = FileKeyWrapper(bytes(32), site_id=b"s" * 16, generation=1)
        super().__init__(site_id=b"s" * 16, generation=1, valid=True, deadline=float("inf"))
        self.wrap_file_key = lambda file_id, key, _generation=1: wrapper.wrap(file_id, key)
        self.unwrap_file_key = lambda file_id, _generation, wrapped: wrapper.unwrap(
            file_id, wrapped
        )


class Mount:
    """One driver's, over a folder that holds backing files and a journal."""

    def __init__(
        self, backing: Backing, store: pathlib.Path, session: Session, undo: ExitStack
    ) -> None:
        self.backing = backing
        self.store = store
        self.session = session
        self.root = backing.open_root(str(store))
        undo.callback(os.close, self.root)
        control = backing.open_directory(self.root, CONTROL_FOLDER)
        undo.callback(os.close, control)
        folder = oldjournals.folder_of(backing, control)
        undo.callback(os.close, folder)
        found = oldjournals.find(backing, folder, METADATA_KEY)
        self.replayed: Replayed
        self.replayed, carried = replay(backing, self.root, found)
        epochs = {one.name: one.cipher.head.epoch for one in found}
        newest = max(epochs.values(), default=0)
        names = sorted(FILES, key=lambda name: epochs.get(name, 0))
        for one in found:
            os.close(one.descriptor)
        self.journal = Journal(
            backing, folder, METADATA_KEY, session.id, newest + 1, names, carried
        )
        undo.callback(self.journal.close)
        session.use(self.journal)
        self._undo = undo

    def create(self, name: str = "file") -> OpenFile:
        descriptor = os.open(self.store / name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self._undo.callback(os.close, descriptor)
        file = SealedFile.create(self.backing, descriptor, Lease(), self.session, SIZE, (BINDING,))
        return OpenFile(file, Buffers(), vetted=True)

    def sealed(
        self, name: str = "file", *, session: Session | None = None, writable: bool = True
    ) -> SealedFile:
        """Opened once more, with another host's memory if `session` says so."""
        descriptor = os.open(self.store / name, os.O_RDWR if writable else os.O_RDONLY)
        self._undo.callback(os.close, descriptor)
        return SealedFile.open(
            self.backing, descriptor, Lease(), session or self.session, writable=writable
        )

    def read(self, name: str = "file") -> bytes:
        """All of it, recovered before if that is due."""
        file = self.sealed(name)
        if file.provisional:
            recover(file)
        return bytes(OpenFile(file, Buffers()).read(0, file.state.size + 1))

    def fold(self, *, keys: bool = True) -> None:
        """Make transactions of all deltas, as a checkpoint does before it begins."""
        lease = Lease()
        for _step in Folding(
            self.backing, self.session, lambda _id: lease if keys else None
        ).fold():
            pass

    def carry(self) -> bool:
        """What is left goes on in the other file, as at a checkpoint without the keys."""
        folding = Folding(self.backing, self.session, lambda _id: None)
        return folding.carry(self.journal.current)

    def settle(self) -> None:
        """Put everything in place, as a checkpoint does."""
        self.fold()
        for _ in range(2):
            epoch = self.journal.rotate()
            self.journal.sync(epoch)
            for file in list(epoch.files.values()):
                for _bytes in self.journal.apply(epoch, file):
                    pass
            self.journal.release(epoch, self.journal.begin_anew(epoch))


class Bench:
    """A mount, and copies of its store as a power cut that loses nothing leaves them."""

    def __init__(self, folder: pathlib.Path, backing: Backing | None = None) -> None:
        self._folder = folder
        self._undo = ExitStack()
        self._copies = 0
        store = folder / "store"
        (store / CONTROL_FOLDER).mkdir(parents=True)
        self.mount = Mount(backing or Backing(), store, Session(), self._undo)

    def copied(self) -> pathlib.Path:
        """The store as it lies there now, with other inode numbers."""
        self._copies += 1
        place = self._folder / f"copy {self._copies}"
        shutil.copytree(self.mount.store, place, symlinks=True)
        return place

    def on(self, store: pathlib.Path, session: Session, backing: Backing | None = None) -> Mount:
        """A driver that is told what its host knows; it replays what is there."""
        return Mount(backing or Backing(), store, session, self._undo)

    def next(self) -> Mount:
        """The next driver's view, on a host that knows that this one was stopped."""
        return self.on(self.copied(), Session(frozenset({self.mount.session.id})))

    def close(self) -> None:
        self._undo.close()
