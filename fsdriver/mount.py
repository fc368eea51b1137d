"""Builds one mount and runs it: keys, tree, transport, and the trio tasks that look after them.

The only room that knows all the others. Tasks: the transport's loop, which answers requests; the
watch over leases (keywatch.py); a watcher of signals.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import trio

from fsdriver import durability, hardening, logs, memory, mountpoints, refusals, resting, store
from fsdriver.backing import Backing
from fsdriver.checkpoint import Waiting
from fsdriver.contentdb_transfer import known_policies
from fsdriver.control import Control
from fsdriver.errors import (
    CkfsError,
    MountRefused,
    StorageFailed,
    StoreDamaged,
    StoreRolledBack,
)
from fsdriver.filesystem import Filesystem
from fsdriver.format.header import FORMAT_VERSION
from fsdriver.incidents import REFUSED
from fsdriver.keywatch import KeyWatch
from fsdriver.mountoptions import MountOptions
from fsdriver.sessionbook import SessionBook
from fsdriver.sessions import Session
from fsdriver.sites import Sites
from fsdriver.startup import start
from fsdriver.storelock import StoreLock
from fsdriver.transport.choice import make_transport
from fsdriver.tree import Tree
from keyhierarchy import statedir
from keyhierarchy.errors import (
    AnchorMismatch,
    KeyHierarchyError,
    KeystoreInvalid,
    WrappedKeyInvalid,
)
from keyhierarchy.hierarchy import Hierarchy, note_refused_store

_LOOK_SECONDS = 0.2
_INCIDENT_SECONDS = 1.0
_FORGED = (StoreDamaged, StoreRolledBack, AnchorMismatch, KeystoreInvalid, WrappedKeyInvalid)
"""What the audit log is to hear of, although there is no mount."""


@dataclass(slots=True)
class MountRequest:
    """What `ckfs mount` was asked for."""

    store: str
    mountpoint: str
    state_dir: str
    options: MountOptions = field(default_factory=MountOptions)
    transport: str = "wire"
    """One of `mountoptions.TRANSPORTS`."""


class Mount:
    """One mount, from the checks to the last descriptor given back."""

    def __init__(self, request: MountRequest) -> None:
        self.request = request
        self.document = store.load(request.store)
        mountpoints.check(request.store, request.mountpoint)
        mountpoints.check_fuse(allow_other="allow_other" in request.options.kernel)
        memory.settle()
        self._hardened = hardening.harden()
        self._since = datetime.now(UTC)
        self._undo = ExitStack()
        self._not_ended = ""
        # The disk below may go at any moment, and what is undone then may fail, too.
        with refusals.storage(f"the store {request.store}"), ExitStack() as undo:
            try:
                self._build(undo)
            except _FORGED as error:
                self._note_refused(error)
                raise
            self._undo = undo.pop_all()
        self._hardened.tell()
        memory.freeze()

    def _note_refused(self, error: Exception) -> None:
        store_id = bytes.fromhex(self.document.store_id)
        with suppress(KeyHierarchyError, OSError):
            note_refused_store(
                self.request.state_dir, store_id, REFUSED, f"{type(error).__name__}: {error}"
            )

    def _build(self, undo: ExitStack) -> None:
        request, options = self.request, self.request.options
        host_folder = statedir.store_folder(
            request.state_dir, bytes.fromhex(self.document.store_id)
        )
        lock = StoreLock(request.store, host_folder, read_only=options.read_only)
        undo.callback(lock.release)
        self.hierarchy = Hierarchy.open(
            store.control_folder(request.store),
            request.state_dir,
            bytes.fromhex(self.document.store_id),
        )
        undo.callback(self.hierarchy.close)
        self.sites = Sites(self.hierarchy, waits=False)
        root_site = bytes.fromhex(self.document.site_id)
        self.sites.open(root_site)
        self.document.check(self.sites.lease(root_site).metadata_key)
        for error in self.sites.open_policies():
            logs.error("key trouble", kind=type(error).__name__, reason=str(error))
        lock.note(request.mountpoint)
        book = SessionBook(host_folder)
        session = book.begin(read_only=options.read_only, accepts_all=options.recover)
        if self.hierarchy.first_sight:
            logs.warning("first sight", store=request.store, reason="this host trusts it from now")
        backing = Backing()
        root = backing.open_root(request.store)
        try:
            started = start(
                backing,
                root,
                self.sites.lease(root_site).metadata_key,
                session,
                host_folder,
                bytes.fromhex(self.document.store_id),
                undo,
                self.sites.at_hand,
                read_only=options.read_only,
            )
        except BaseException:
            if not options.read_only:
                with suppress(KeyHierarchyError):  # the record calls the session killed, then
                    book.cancel()
            raise
        pinned = tuple(known_policies(host_folder))
        if pinned != started.entries.policies():
            started.entries.note_policies(pinned)
        tree = Tree(
            backing,
            root,
            self.sites,
            chunk_size=self.document.chunk_size,
            plaintext_names=self.document.names == "plaintext",
            folders_open=hardening.folders_open(),
            files_resting=hardening.files_resting(resting.FILES),
            session=session,
            entries=started.entries,
            owner=(options.uid, options.gid),
        )
        self.filesystem = Filesystem(tree, read_only=options.read_only)
        self.filesystem.control = Control(
            self.filesystem, request.store, self.status, self.site_status
        )
        self.filesystem.checkpoints = started.checkpoints
        self._started, self._session = started, session
        undo.callback(self._end, book, session)
        self.transport = make_transport(request.transport, self.filesystem, options)
        self._watch = KeyWatch(self.hierarchy, self.sites, self.filesystem, self.transport)
        try:
            self.transport.open(request.mountpoint, options.kernel, os.path.abspath(request.store))
        except (RuntimeError, OSError) as error:
            raise MountRefused(
                f"the system refused to mount on {request.mountpoint} ({error}); its own words "
                "stand above"
            ) from None
        undo.callback(self.transport.close)

    def _end(self, book: SessionBook, session: Session) -> None:
        """Only what is on the disk for good has ended well."""
        try:
            self.filesystem.close()
        except (OSError, CkfsError) as error:
            self._tell_not_ended(error)
            return
        finally:
            self._write_incidents()
        if not self.request.options.read_only and not session.broken:
            try:
                book.end(session)
            except KeyHierarchyError as error:
                self._tell_not_ended(error)

    def _tell_not_ended(self, error: Exception) -> None:
        self._not_ended = str(error)
        logs.error("not all is on the disk", reason=self._not_ended)

    def run(self, ready: Callable[[], None]) -> None:
        """Serve until unmounted or told to end; `ready` is called when requests are answered.

        Raises StorageFailed when the disk below kept the mount from ending as it should.
        """
        with refusals.storage(f"the store {self.request.store}"), self._undo:
            trio.run(self._run, ready)
        if self._not_ended:
            raise StorageFailed(
                f"{self.request.store} was unmounted, but not all is on the disk "
                f"({self._not_ended}): what was written after the last sync may be lost; mend the "
                "disk below it and mount it again"
            )

    def close(self) -> None:
        """Undo a mount that is not to be served."""
        self._undo.close()

    async def _run(self, ready: Callable[[], None]) -> None:
        async with trio.open_nursery() as nursery:
            # Before the first request is answered: whoever got an answer may send one.
            await nursery.start(self._watch_signals)
            nursery.start_soon(self._watch.run)
            nursery.start_soon(self._keep_checkpoints)
            nursery.start_soon(self._keep_incidents)
            ready()
            await self.transport.serve()
            nursery.cancel_scope.cancel()

    async def _keep_checkpoints(self) -> None:
        """Every few seconds what was changed becomes durable, whether a program asks or not."""
        checkpoints = self.filesystem.checkpoints
        while checkpoints is not None:
            await trio.sleep(_LOOK_SECONDS)
            if checkpoints.due:
                # An unmount waits for the step that is under way, and then makes one of its own.
                try:
                    steps = checkpoints.steps()
                    while (wait := self._next_step(steps)) is not None:
                        await trio.to_thread.run_sync(wait)
                except (OSError, CkfsError) as error:
                    logs.error("checkpoint failed", reason=str(error))

    def _next_step(self, steps: Iterator[Waiting]) -> Waiting | None:
        with self.transport.exclusive():
            return next(steps, None)

    async def _keep_incidents(self) -> None:
        """The audit log hears within a second what the store got wrong."""
        while True:
            await trio.sleep(_INCIDENT_SECONDS)
            if self.filesystem.incidents.any:
                await trio.to_thread.run_sync(self._write_incidents)

    def _write_incidents(self) -> None:
        try:
            self.filesystem.incidents.take().write(self.hierarchy)
        except (KeyHierarchyError, OSError) as error:
            logs.error("key trouble", kind=type(error).__name__, reason=str(error))

    async def _watch_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        with trio.open_signal_receiver(*wanted) as signals:
            task_status.started()
            async for number in signals:
                logs.info("unmounting", signal=signal.Signals(number).name)
                # A worker thread asks: the kernel flushes mapped pages through this loop first.
                if not await trio.to_thread.run_sync(self._try_unmount, abandon_on_cancel=True):
                    self.transport.stop()

    def _try_unmount(self) -> bool:
        try:
            mountpoints.unmount(self.request.mountpoint)
        except CkfsError as error:
            logs.warning("unmounting while in use", reason=str(error))
            with suppress(OSError):
                os.sync()
            return False
        return True

    def status(self) -> dict[str, Any]:
        """For `ckfs status`."""
        return {
            "store": os.path.abspath(self.request.store),
            "mountpoint": os.path.abspath(self.request.mountpoint),
            "pid": os.getpid(),
            "since": self._since.isoformat(timespec="seconds"),
            "transport": self.request.transport,
            "format": FORMAT_VERSION,
            "names": self.document.names,
            "chunk_size": self.document.chunk_size,
            "read_only": self.request.options.read_only,
            **self.filesystem.counts(),
            "durability": durability.facts(
                self._started.checkpoints,
                self._session,
                self._started.entries,
                self.filesystem.incidents,
            ),
            "memory": {
                **memory.resident(),
                **self.filesystem.caches(),
                **self._started.entries.held,
            },
            "state_dir": self.request.state_dir,
            **self._hardened.facts(),
            "policies": [msgspec.to_builtins(policy) for policy in self.hierarchy.policy_status()],
            "sites": [self.site_status(lease.site_id) for lease in self.sites.leases()],
        }

    def site_status(self, site_id: bytes) -> dict[str, Any]:
        """For `ckfs site show`: what the lease says, which is in memory."""
        lease = self.sites.lease(site_id)
        left = lease.deadline - time.monotonic()
        return {
            "site_id": site_id.hex(),
            "policy_id": lease.policy_id,
            "site_key_generation": lease.generation,
            "lease_valid": lease.valid,
            "lease_seconds_left": max(0, round(left)),
        }
