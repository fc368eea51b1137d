"""The real driver over an image in memory: mount, run a workload's steps, look at everything.

The store is a real one, made once by `ckfs init`'s code on the host; its keys are opened once and
shared by all mounts. Random numbers come from a seed, so that a recording can be made again.
"""

import io
import os
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import shake_256
from itertools import islice
from tempfile import TemporaryDirectory
from typing import NamedTuple

from fsdriver import logs, store
from fsdriver.backing import RENAME_EXCHANGE
from fsdriver.changes import Changes
from fsdriver.contentdb import FILE_NAME
from fsdriver.contents import KEEP_SIZE, PUNCH_HOLE
from fsdriver.filesystem import Filesystem
from fsdriver.inodes import ROOT
from fsdriver.namespace import Caller
from fsdriver.sessions import Session
from fsdriver.sites import Sites
from fsdriver.startup import start
from fsdriver.tree import Tree
from keyhierarchy.hierarchy import Hierarchy
from keyhierarchy.statedir import store_folder
from tests.crash.states.image import Image, from_folder
from tests.crash.states.memory import MemoryBacking
from tests.crash.states.workloads import CHUNK, Step

CALLER = Caller(os.geteuid(), os.getegid())


@contextmanager
def host_in_memory() -> Iterator["Host"]:
    """A new one, in a folder that no disk has to hold."""
    memory = "/dev/shm"  # noqa: S108 a tmpfs
    with TemporaryDirectory(dir=memory if os.path.isdir(memory) else None) as folder, quiet():
        host = Host(folder)
        try:
            yield host
        finally:
            host.close()


@contextmanager
def quiet() -> Iterator[None]:
    """Every mount here follows a stop, and every one would say so in the log."""
    before = logs.configure(io.StringIO())
    try:
        yield
    finally:
        logs.configure(before)


class Host:
    """One machine and the store that it made."""

    def __init__(self, folder: str) -> None:
        place, state_dir = os.path.join(folder, "store"), os.path.join(folder, "state")
        store.create(place, state_dir, chunk_size=CHUNK, created="2026-11-21T00:00:00+00:00")
        self.document = store.load(place)
        self.store_id = bytes.fromhex(self.document.store_id)
        self._hierarchy = Hierarchy.open(store.control_folder(place), state_dir, self.store_id)
        self.sites = Sites(self._hierarchy)
        lease = self._hierarchy.lease(bytes.fromhex(self.document.site_id))
        self.metadata_key = lease.metadata_key
        self.folder = store_folder(state_dir, self.store_id)
        self.fresh = State(from_folder(place))
        """The store as `init` left it."""

    def close(self) -> None:
        """Give the keys back."""
        self._hierarchy.close()

    def put(self, database: bytes | None) -> None:
        """Let the host know of the store what it knew then."""
        place = os.path.join(self.folder, FILE_NAME)
        for path in (place, place + "-wal", place + "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(path)
        if database is not None:
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(descriptor, database)
            os.close(descriptor)


class State(NamedTuple):
    """What a mount begins with."""

    image: Image
    database: bytes | None = None
    """The file of the content database; None where there is none yet."""
    unended: frozenset[bytes] = frozenset()
    """Sessions that were stopped."""


class Mount:
    """One driver's session; raises what refuses the mount. Close it, or drop it."""

    def __init__(
        self,
        host: Host,
        state: State,
        *,
        backing: MemoryBacking | None = None,
        committed: Callable[[bytes], None] = lambda _database: None,
    ) -> None:
        self.backing = backing or MemoryBacking(state.image)
        self.session = Session(state.unended)
        self.session.follows_one = bool(state.unended)
        self._committed = committed
        self._handles: dict[int, int] = {}
        self._under_way: tuple[Callable[[], None], Generator] | None = None
        host.put(state.database)
        with ExitStack() as undo:
            root = self.backing.open_root("")
            started = start(
                self.backing,
                root,
                host.metadata_key,
                self.session,
                host.folder,
                host.store_id,
                undo,
                host.sites.at_hand,
                read_only=False,
            )
            self.entries = started.entries
            self._watch_commits()
            self.tree = Tree(
                self.backing,
                root,
                host.sites,
                chunk_size=host.document.chunk_size,
                plaintext_names=False,
                folders_open=16,
                session=self.session,
                entries=started.entries,
            )
            self.fs = Filesystem(self.tree)
            self.fs.checkpoints = started.checkpoints
            self._undo = undo.pop_all()

    def _watch_commits(self) -> None:
        begin = self.entries.begin_commit

        def begin_commit(*arguments: int) -> Callable[[], None]:
            commit = begin(*arguments)

            def run() -> None:
                commit()
                self._committed(self.database())

            return run

        self.entries.begin_commit = begin_commit

    def database(self) -> bytes:
        """What is committed."""
        return self.entries._reader.serialize()

    def close(self) -> State:
        """Unmount. Returns what it leaves; the session has ended."""
        try:
            self._end_checkpoint()
            self.fs.close()
            return State(self.backing.image, self.database())
        finally:
            self._undo.close()

    def drop(self) -> State:
        """Killed. Returns what it leaves."""
        unended = self.session.unended | {self.session.id}
        left = State(self.backing.image, self.database(), unended)
        self._undo.close()
        return left

    # A program's calls

    def take(self, step: Step) -> None:
        """One step of a workload."""
        getattr(self, "_" + step.call)(*step.arguments)

    def number(self, path: str) -> int:
        """The inode number of a path."""
        number = ROOT
        for part in filter(None, path.split("/")):
            number = self.fs.lookup(number, os.fsencode(part)).number
        return number

    def _split(self, path: str) -> tuple[int, bytes]:
        parent, _slash, name = path.rpartition("/")
        return self.number(parent), os.fsencode(name)

    def _create(self, path: str) -> None:
        attributes, handle = self.fs.create(*self._split(path), 0o644, os.O_RDWR, CALLER)
        self._handles[attributes.number] = handle

    def _open(self, path: str) -> None:
        number = self.number(path)
        if number not in self._handles:
            self._handles[number] = self.fs.open(number, os.O_RDWR)

    def _close(self, path: str) -> None:
        handle = self._handles.pop(self.number(path))
        self.fs.flush(handle)
        self.fs.release(handle)

    def _write(self, path: str, offset: int | None, data: bytes) -> None:
        number = self.number(path)
        at = self.fs.getattr(number).size if offset is None else offset
        self.fs.write(self._handles[number], at, data)

    def _punch(self, path: str, offset: int, length: int) -> None:
        handle = self._handles[self.number(path)]
        self.fs.fallocate(handle, KEEP_SIZE | PUNCH_HOLE, offset, length)

    def _tmpfile(self, path: str, data: bytes) -> None:
        parent, name = self._split(path)
        attributes, handle = self.fs.tmpfile(parent, 0o644, os.O_RDWR, CALLER)
        self.fs.write(handle, 0, data)
        self.fs.link(attributes.number, parent, name)
        self.fs.flush(handle)
        self.fs.release(handle)

    def _truncate(self, path: str, size: int) -> None:
        self.fs.setattr(self.number(path), Changes(size=size))

    def _setxattr(self, path: str, name: str, value: bytes) -> None:
        self.fs.setxattr(self.number(path), os.fsencode(name), value, CALLER)

    def _mkdir(self, path: str) -> None:
        self.fs.mkdir(*self._split(path), 0o755, CALLER)

    def _symlink(self, path: str, target: bytes) -> None:
        self.fs.symlink(*self._split(path), target, CALLER)

    def _link(self, path: str, new: str) -> None:
        names = (self.number(path), *self._split(new))
        wait = self.fs.begin_link(*names)
        if wait is not None:
            wait()
        self.fs.link(*names)

    def _unlink(self, path: str) -> None:
        self.fs.unlink(*self._split(path))

    def _rmdir(self, path: str) -> None:
        self.fs.rmdir(*self._split(path))

    def _rename(self, path: str, new: str, flags: int = 0) -> None:
        names = (*self._split(path), *self._split(new), flags)
        wait = self.fs.begin_rename(*names)
        if wait is not None:
            wait()
        self.fs.rename(*names, at_once=True)

    def _exchange(self, path: str, new: str) -> None:
        self._rename(path, new, RENAME_EXCHANGE)

    def _fdatasync(self, path: str) -> None:
        self._fsync(path, data_only=True)

    def _fsync(self, path: str, *, data_only: bool = False) -> None:
        number = self.number(path)
        handle = self._handles.get(number) or self.fs.open(number, os.O_RDWR)
        self.fs.begin_fsync(handle, data_only=data_only)()
        if number not in self._handles:
            self.fs.release(handle)

    def _fsyncdir(self, path: str) -> None:
        handle = self.fs.opendir(self.number(path))
        self.fs.begin_fsync_directory(handle)()
        self.fs.releasedir(handle)

    def _sync(self) -> None:
        """The driver's checkpoint, with what is still open sealed before."""
        for inode in self.tree.inodes.all():
            if inode.open is not None:
                inode.open.seal()
        self._end_checkpoint()
        self.fs.checkpoints.run()

    def _syncfs(self) -> None:
        self.fs.begin_syncfs()()

    def _checkpoint(self, waits: int) -> None:
        """The first part of one; its next wait goes on beside what follows, on another thread."""
        self._end_checkpoint()
        steps = self.fs.checkpoints.steps()
        for wait in islice(steps, waits):
            wait()
        self._under_way = next(steps), steps

    def _end_checkpoint(self) -> None:
        """The wait comes back; as before an unmount, nobody goes on from there."""
        if self._under_way is not None:
            wait, steps = self._under_way
            wait()
            steps.close()
            self._under_way = None

    def _unmount(self) -> None:
        self.close()


@contextmanager
def seeded(seed: str) -> Iterator[None]:
    """Random numbers that are the same the next time."""
    count = 0

    def random(length: int) -> bytes:
        nonlocal count
        count += 1
        return shake_256(f"{seed} {count}".encode()).digest(length)

    real = os.urandom, secrets.token_bytes
    os.urandom = secrets.token_bytes = random
    try:
        yield
    finally:
        os.urandom, secrets.token_bytes = real
