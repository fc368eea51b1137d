"""Serves a mount by speaking the kernel's FUSE protocol itself: the fast transport.

One thread reads a request into a buffer that is used again and again, answers it, and reads the
next. It never waits for a slow disk: what does (an fsync, a rename) goes to worker threads, which
answer when they are done. The mount's control tasks run on another thread, and touch the
filesystem only between two requests (`exclusive`).

More than two cores. The client has one, the driver the other; a driver that used a third would
have to be more processes, since one Python process runs one thread at a time. What that would
take: each worker process opens /dev/fuse and clones the connection (ioctl FUSE_DEV_IOC_CLONE), so
that each reads requests of its own and answers them on the same descriptor; INIT, FORGET and
RELEASE find any of them. So inode numbers with their lookup counts, handles, the state of an open
file (size, chunk set, generation, dirty chunks) and the journal's end must lie in one process, or
in memory that all share and lock by inode; keys reach a worker over a socket and leave it when
their lease ends, and `exclusive` becomes a barrier for all. Reads of files that nobody writes
need the least of it, and would be the first to move.
"""

import errno
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from mmap import PAGESIZE
from typing import Final

import trio

from fsdriver import logs
from fsdriver.errors import CkfsError, refuse
from fsdriver.filesystem import Filesystem
from fsdriver.mountpoints import unmount
from fsdriver.transport import attachment, protocol
from fsdriver.transport.protocol import InitFlag, Opcode
from fsdriver.transport.reader import Reader
from fsdriver.transport.requests import Answer, Handler, Timeouts
from fsdriver.transport.seldom import AllHandlers
from fsdriver.transport.wakefulness import Wakefulness
from fsdriver.transport.wholechunks import Given, WholeChunks

MAX_WRITE: Final = 1 << 20
_MAX_PAGES: Final = MAX_WRITE // PAGESIZE
_BUFFER: Final = MAX_WRITE + 4096
_WHOLE: Final = 1 << 16
_WHOLE_CHUNKS: Final = MAX_WRITE - _WHOLE
"""A write past the cache takes a page more where its memory begins within one. So much has room in
any case, and is cut where a chunk ends, if that is no larger than `_WHOLE`."""
_MAX_BACKGROUND: Final = 64
_THREADS: Final = 16
_PAUSE_SECONDS: Final = 0.01
_PROMPT_SECONDS: Final = 0.0005
"""A wait that is shorter than this costs less than to hand it to another thread."""
_LONG_SECONDS: Final = 2.0
_DOUBT: Final = 1.5
"""How much longer a wait is taken to be after each one that was longer than thought."""

_WANTED: Final = (
    InitFlag.ASYNC_READ
    | InitFlag.ATOMIC_O_TRUNC
    | InitFlag.BIG_WRITES
    | InitFlag.EXPORT_SUPPORT
    | InitFlag.DO_READDIRPLUS
    | InitFlag.READDIRPLUS_AUTO
    | InitFlag.ASYNC_DIO
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.MAX_PAGES
    | InitFlag.CACHE_SYMLINKS
    | InitFlag.EXPLICIT_INVAL_DATA
    | InitFlag.HANDLE_KILLPRIV_V2
    | InitFlag.INIT_EXT
    | InitFlag.DIRECT_IO_ALLOW_MMAP
)


class WireTransport:
    """One mount. `open` mounts, `serve` answers until unmounted, `close`."""

    def __init__(
        self,
        filesystem: Filesystem,
        *,
        entry_timeout: float,
        attr_timeout: float,
        writeback: bool = False,
        awake: bool = True,
    ) -> None:
        self._filesystem = filesystem
        self._awake = awake
        self._wakefulness = Wakefulness(asked=False)
        self._taken = 0
        """Requests so far."""
        self._wanted = int(_WANTED) | (int(InitFlag.WRITEBACK_CACHE) if writeback else 0)
        timeouts = Timeouts(protocol.valid_for(entry_timeout), protocol.valid_for(attr_timeout))
        self._whole_chunks = WholeChunks(self._store)
        self._requests = AllHandlers(filesystem, timeouts, self._later, self._whole_chunks)
        self._handlers = self._requests.table()
        self._handlers[Opcode.INIT] = self._init
        self._handlers[Opcode.WRITE] = self._shown(self._handlers[Opcode.WRITE])
        for opcode in (Opcode.OPEN, Opcode.SETATTR):
            self._handlers[opcode] = self._settled(self._handlers[opcode])
        for opcode in (Opcode.WRITE, Opcode.COPY_FILE_RANGE):
            self._handlers[opcode] = self._held_back(self._handlers[opcode])
        filesystem.set_ids_dropped = self._forget_attributes
        self._device = -1
        self._mountpoint = ""
        self._ended = trio.Event()
        self._tell_ended: Callable[[], None] = lambda: None
        self._stopped = False
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        """Held by who waits for a moment between two requests. Locks know no queue: the loop,
        which is back at its own before anybody else is awake, would keep it for ever."""
        self._showing = 0
        """Writes that are done and not answered, till the kernel has forgotten pages."""
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ckfs-wait")
        self._usual_wait = _PROMPT_SECONDS / 2
        """Seconds that a wait for the disk takes; a single slow one may have had other reasons."""

    # Mount and unmount

    def open(self, mountpoint: str, options: set[str], source: str) -> None:
        """Mount; raises OSError or MountRefused when the system refuses."""
        place = os.path.realpath(mountpoint)
        self._device = attachment.attach(mountpoint, options, source)
        self._mountpoint = mountpoint
        attachment.raise_read_ahead(place)
        self._wakefulness = Wakefulness(asked=self._awake)

    async def serve(self) -> None:
        """Until the mount is gone or `stop` is called."""
        token = trio.lowlevel.current_trio_token()
        self._tell_ended = lambda: token.run_sync_soon(self._ended.set)
        # Nothing but a request wakes it, and after `stop` there may be none: so nobody waits.
        threading.Thread(target=self._run, name="ckfs-requests", daemon=True).start()
        while not self._ended.is_set():
            before = self._taken
            with trio.move_on_after(_LONG_SECONDS):
                await self._ended.wait()
            if self._wakefulness.held and self._taken == before:
                # The loop waits for the store's disk: nobody is answered soon.
                self._wakefulness.release()

    def stop(self) -> None:
        """End `serve`; what is asked from now on gets no answer. From a task of its loop."""
        self._halt()
        self._tell_ended()

    def _halt(self) -> None:
        with self.exclusive():
            self._stopped = True
        self._whole_chunks.withdraw()

    def close(self) -> None:
        """Unmount if that has not happened yet; what is under way is answered first."""
        if self._device < 0:
            return
        self._halt()
        self._threads.shutdown()
        self._whole_chunks.close(_LONG_SECONDS)
        attached = attachment.is_attached(self._device)
        # Whoever still asks is told that nobody answers any more. The loop may be waiting for a
        # request all the same: the number must not become another file's under its hands.
        attachment.let_go(self._device)
        self._device = -1
        self._wakefulness.close()
        if attached:
            with suppress(CkfsError):
                unmount(self._mountpoint, lazy=True)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """The filesystem to oneself, between two requests; on any thread but the loop's."""
        with self._turn:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    # The loop

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:  # noqa: BLE001 there is nobody above to raise to
            logs.error("unexpected", error, where="the loop that answers the kernel")
        finally:
            self._halt()  # nobody waits for what only the loop could bring about
            with suppress(trio.RunFinishedError):
                self._tell_ended()

    def _loop(self) -> None:
        reader = Reader(self._device, _BUFFER, self._idle, self._wakefulness)
        buffer, view = reader.buffer, memoryview(reader.buffer)
        parse, body = protocol.IN_HEADER.unpack_from, protocol.IN_HEADER.size
        handlers, lock, turn = self._handlers, self._lock, self._turn
        while length := reader.next():
            _length, opcode, unique, number, uid, gid = parse(buffer)
            self._taken += 1
            if turn.locked():
                with turn:
                    pass
            with lock:
                if self._stopped and not self._showing and not self._whole_chunks.busy:
                    return
                try:
                    if self._stopped:
                        # A page that is to be forgotten may be waiting for this very request.
                        raise refuse(errno.EIO)
                    answer = handlers[opcode if opcode < protocol.OPCODES else 0](
                        unique, number, view[body:length], uid, gid
                    )
                except Exception as error:  # noqa: BLE001 one that escapes would end the mount
                    answer = self._refuse(unique, opcode, number, error)
                # What is answered may lie in buffers that the next call uses again.
                if answer is not None:
                    self._reply(answer)

    def _idle(self) -> bool:
        if self._turn.locked():
            with self._turn:
                pass
        with self._lock:
            try:
                return not self._stopped and self._requests.idle()
            except Exception as error:  # noqa: BLE001 one that escapes would end the mount
                self._errno_of(error, 0)
                return False

    def _reply(self, answer: Answer) -> None:
        try:
            if isinstance(answer, bytes):
                os.write(self._device, answer)
            elif answer is not None:
                os.writev(self._device, answer)
        except OSError as error:
            # ENOENT: the connection was cut off, and nobody waits for this any more.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                logs.error("unexpected", where="answering the kernel", reason=str(error))
                self._answer_at_last(answer)

    def _answer_at_last(self, answer: Answer) -> None:
        """The kernel did not take the answer: who asked must not wait for ever."""
        head = answer if isinstance(answer, bytes) else bytes(answer[0]) if answer else b""
        with suppress(OSError, struct.error):
            _length, _code, unique = protocol.OUT_HEADER.unpack_from(head)
            os.write(self._device, protocol.error(unique, errno.EIO))

    def _refuse(self, unique: int, opcode: int, number: int, error: Exception) -> Answer:
        code = self._errno_of(error, number)
        if opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT):
            return None
        return protocol.error(unique, code)

    def _errno_of(self, error: Exception, number: int) -> int:
        """What the kernel takes, even where the log cannot be written."""
        code = errno.EIO
        with suppress(Exception):
            code = self._filesystem.errno_of(error, number)
        return code if 0 < code <= protocol.LARGEST_ERROR else errno.EIO

    # What waits

    def _later(
        self, unique: int, number: int, wait: Callable[[], None], then: Callable[[], Answer]
    ) -> Answer:
        """In place while the disk is so fast that another thread would cost more."""
        if self._usual_wait < _PROMPT_SECONDS:
            self._timed(wait)
            return then()
        self._threads.submit(self._wait, unique, number, wait, then)
        return None

    def _timed(self, wait: Callable[[], None]) -> None:
        began = time.monotonic()
        try:
            wait()
        finally:
            taken = time.monotonic() - began
            self._usual_wait = min(taken, self._usual_wait * _DOUBT + _PROMPT_SECONDS / 16)

    def _wait(
        self, unique: int, number: int, wait: Callable[[], None], then: Callable[[], Answer]
    ) -> None:
        try:
            self._timed(wait)
            with self.exclusive():
                answer = then()
        except Exception as error:  # noqa: BLE001 there is nobody above to raise to
            with self.exclusive():
                answer = protocol.error(unique, self._errno_of(error, number))
        self._reply(answer)

    def _shown(self, write: Handler) -> Handler:
        """A write past the kernel's pages is answered when those that others have are forgotten."""
        seen = self._requests.past_cache.seen

        def handle(unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
            answer = write(unique, number, body, uid, gid)
            if seen:
                opened, offset, length, flags = protocol.WRITE_IN.unpack_from(body)
                # Not what a mapped page holds, which the kernel writes by any handle, and locks.
                if opened in seen and not flags & protocol.WRITE_CACHE:
                    # They may be waiting for what only the loop can answer.
                    self._showing += 1
                    self._threads.submit(self._show, number, offset, length, answer)
                    return None
            return answer

        return handle

    def _show(self, number: int, offset: int, length: int, answer: Answer) -> None:
        self._forget_pages(number, offset, length)
        self._reply(answer)
        with self.exclusive():
            self._showing -= 1

    def _forget_pages(self, number: int, offset: int, length: int) -> None:
        self._tell(protocol.inval_inode(number, offset, length))

    def _tell(self, *message: bytes) -> None:
        """What the kernel has not asked for; may be of a file that it does not know any more."""
        with suppress(OSError):
            os.writev(self._device, message)

    def _settled(self, handler: Handler) -> Handler:
        """Who may change a file from now on is answered when no page of it is under way."""
        whole_chunks = self._whole_chunks

        def handle(unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
            answer = handler(unique, number, body, uid, gid)
            if under_way := whole_chunks.withdraw(number):
                self._threads.submit(self._settle, under_way, answer)
                return None
            return answer

        return handle

    def _settle(self, under_way: Given, answer: Answer) -> None:
        self._whole_chunks.wait(under_way)
        self._reply(answer)

    def _store(self, number: int, offset: int, content: bytes) -> None:
        self._tell(protocol.store(number, offset, len(content)), content)

    def _held_back(self, handler: Handler) -> Handler:
        """Who writes faster than the disk takes it waits for its answer."""

        def handle(unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
            answer = handler(unique, number, body, uid, gid)
            if self._filesystem.crowded:
                self._threads.submit(self._hold_back, answer)
                return None
            return answer

        return handle

    def _hold_back(self, answer: Answer) -> None:
        while self._filesystem.crowded and not self._stopped:
            time.sleep(_PAUSE_SECONDS)
        self._reply(answer)

    # The connection

    def _init(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        major, minor, max_readahead, offered = protocol.offered(body)
        if major != protocol.MAJOR or minor < protocol.OLDEST_MINOR:
            logs.error("unexpected", where="INIT", reason=f"the kernel speaks {major}.{minor}")
            return protocol.error(unique, errno.EPROTO)
        agreed = offered & self._wanted
        if agreed & InitFlag.WRITEBACK_CACHE == 0:
            self._requests.no_flush = protocol.FOPEN_NOFLUSH
            self._whole_chunks.allowed = True
            if agreed & InitFlag.DIRECT_IO_ALLOW_MMAP and self._filesystem.chunk_size <= _WHOLE:
                self._requests.past_cache.allow()
        return protocol.init(
            unique,
            min(minor, protocol.MINOR),
            agreed,
            max_readahead=max(max_readahead, attachment.READ_AHEAD),
            max_write=_WHOLE_CHUNKS if self._requests.past_cache.flag else MAX_WRITE,
            max_pages=_MAX_PAGES,
            max_background=_MAX_BACKGROUND,
        )

    def _forget_attributes(self, number: int) -> None:
        """Of a file that is no longer set-user-id: the kernel would still run it as if it were."""
        self._tell(protocol.inval_attributes(number))

    def drop_caches(self, known: Sequence[tuple[int, int, bytes]]) -> None:
        """Make the kernel ask again. It waits for pages that the loop fills: not on its thread."""
        self._whole_chunks.wait(self._whole_chunks.withdraw())
        for number, parent, name in known:
            self._tell(protocol.inval_inode(number))
            if parent:
                self._tell(protocol.inval_entry(parent, name))
