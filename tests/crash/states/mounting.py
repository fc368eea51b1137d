"""The real driver over an image in memory: mount, run a workload's steps, look at everything.

The store is a real one, made once by `ckfs init`'s code on the host; its keys are opened once and
shared by all mounts. Random numbers come from a seed, so that a recording can be made again.
"""

import logging
import os
import secrets
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import shake_256
from itertools import islice
from tempfile import TemporaryDirectory
from typing import NamedTuple

import structlog

from fsdriver import store
from fsdriver.backing import RENAME_EXCHANGE
from fsdriver.changes import Changes
from fsdriver.contentdb import FILE_NAME
from fsdriver.errors import CkfsError
from fsdriver.filesystem import Filesystem
from fsdriver.inodes import ROOT
from fsdriver.namespace import Caller
from fsdriver.sessions import Session
from fsdriver.sites import Sites
from fsdriver.startup import start
from fsdriver.tree import Tree
from keyhierarchy.errors import KeyHierarchyError
from keyhierarchy.hierarchy import Hierarchy
from keyhierarchy.statedir import store_folder
from tests.crash.states.image import Image, from_folder
from tests.crash.states.memory import MemoryBacking
from tests.crash.states.oracle import Step
from tests.crash.states.workloads import CHUNK

CALLER = Caller(os.geteuid(), os.getegid())
REFUSALS = (OSError, CkfsError, KeyHierarchyError)
"""What a program sees as an errno; anything else is a bug."""


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
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


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
        self.fs.rename(*names)

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

    # Looking

    def look(self) -> "Look":
        """Everything that there is, read in whole."""
        look = Look(self)
        look.folder(ROOT, "")
        return look


class Found:
    """What a mount shows under some path; `number` is the inode's."""

    __slots__ = ("content", "entries", "kind", "number", "xattrs")

    def __init__(self, kind: str, number: int) -> None:
        self.kind = kind
        self.number = number
        self.content = b""
        self.xattrs: dict[str, bytes] = {}
        self.entries: dict[str, int | bytes] = {}
        """Of a folder: inode numbers; of symlinks the targets."""

    def __eq__(self, other: object) -> bool:
        fields = ("kind", "number", "content", "xattrs", "entries")
        return all(getattr(self, one) == getattr(other, one) for one in fields)

    __hash__ = None


class Look:
    """What one mount shows: `found` by inode number, and what could not be shown."""

    def __init__(self, mount: Mount) -> None:
        self._fs = mount.fs
        self.found: dict[int, Found] = {}
        self.troubles: list[tuple[str, str]] = []

    def folder(self, number: int, path: str) -> None:
        """Everything below."""
        found = self.found[number] = Found("d", number)
        handle = None
        try:
            handle = self._fs.opendir(number)
            listed = []
            for name, attributes, _next in self._fs.readdir(handle, 0):
                if name not in (b".", b".."):
                    self._fs.count_lookup(attributes.number)
                    listed.append((os.fsdecode(name), attributes))
            found.xattrs = self._xattrs(number)
        except Exception as error:  # noqa: BLE001 that is what is looked for
            self._trouble(path, error)
            return
        finally:
            if handle is not None:
                self._fs.releasedir(handle)
        for name, attributes in listed:
            self._entry(found, path, name, attributes)

    def _entry(self, folder: Found, path: str, name: str, attributes) -> None:
        inner, number = f"{path}/{name}", attributes.number
        if name.endswith(".ckfs-foreign"):
            self.troubles.append(("foreign", f"{inner} is shown"))
        elif stat.S_ISDIR(attributes.mode):
            folder.entries[name] = number
            self.folder(number, inner)
        elif stat.S_ISLNK(attributes.mode):
            try:
                folder.entries[name] = self._fs.readlink(number)
            except Exception as error:  # noqa: BLE001 that is what is looked for
                self._trouble(inner, error)
        else:
            folder.entries[name] = number
            # Under every name: each is bound by itself. The file's inode is the same.
            self._file(inner, attributes)

    def _file(self, path: str, attributes) -> None:
        number = attributes.number
        found = Found("f", number)
        handle = None
        try:
            handle = self._fs.open(number, os.O_RDONLY)
            size = self._fs.getattr(number).size
            found.content = bytes(self._fs.read(handle, 0, size + CHUNK))
            found.xattrs = self._xattrs(number)
            if len(found.content) != size:
                self.troubles.append(("short read", f"{path} has {size} bytes by stat"))
            if attributes.size != size:
                was = f"{attributes.size} bytes before it was opened, {size} since"
                self.troubles.append(("stat", f"{path} has {was}"))
        except Exception as error:  # noqa: BLE001 that is what is looked for
            self._trouble(path, error)
            return
        finally:
            if handle is not None:
                self._fs.release(handle)
        self.found[number] = found

    def _xattrs(self, number: int) -> dict[str, bytes]:
        names = self._fs.listxattr(number)
        return {os.fsdecode(name): self._fs.getxattr(number, name) for name in names}

    def _trouble(self, path: str, error: Exception) -> None:
        kind = "unreadable" if isinstance(error, REFUSALS) else "escaped"
        self.troubles.append((kind, f"{path or '/'}: {type(error).__name__}: {error}"))


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
