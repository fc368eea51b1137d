"""Filesystem requests through pyfuse3 and libfuse: translates arguments and replies, no more.

pyfuse3 ends the whole mount on an exception that is not its own, so every handler goes through
`_answering`, which turns whatever comes into an errno. Nothing awaits between a call to the
filesystem and the reply, but for the syncs that wait on a worker thread; that keeps the shared
read buffer valid and the requests in order.
"""

import functools
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
import trio

from fsdriver.attributes import Attributes
from fsdriver.changes import Changes
from fsdriver.filesystem import Filesystem
from fsdriver.namespace import Caller

P = ParamSpec("P")
R = TypeVar("R")

_Handler = Callable[Concatenate["Operations", int, P], Coroutine[Any, Any, R]]

_DOTS = (b".", b"..")
_PAUSE_SECONDS = 0.01


def _answering(handler: _Handler[P, R]) -> _Handler[P, R]:
    """For handlers whose first argument is an inode number."""
    return _answer(handler, lambda _self, number: number)


def _answering_handle(handler: _Handler[P, R]) -> _Handler[P, R]:
    """For handlers whose first argument is a file handle."""
    return _answer(handler, lambda self, handle: self.filesystem.number_of(handle))


def _answer(
    handler: _Handler[P, R], number_of: Callable[["Operations", int], int]
) -> _Handler[P, R]:
    async def answer(self: "Operations", which: int, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(self, which, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:  # noqa: BLE001 one that escapes would end the mount
            code = self.filesystem.errno_of(error, number_of(self, which))
            raise pyfuse3.FUSEError(code) from None

    return functools.update_wrapper(answer, handler)


class Operations(pyfuse3.Operations):
    """pyfuse3's handlers over one Filesystem."""

    enable_writeback_cache = False
    enable_acl = False

    def __init__(
        self, filesystem: Filesystem, *, entry_timeout: float, attr_timeout: float
    ) -> None:
        super().__init__()
        self.filesystem = filesystem
        self._entry_timeout = entry_timeout
        self._attr_timeout = attr_timeout

    def _entry(self, attributes: Attributes) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        (
            entry.st_ino,
            entry.st_mode,
            entry.st_nlink,
            entry.st_uid,
            entry.st_gid,
            entry.st_rdev,
            entry.st_size,
            entry.st_blocks,
            entry.st_blksize,
            entry.st_atime_ns,
            entry.st_mtime_ns,
            entry.st_ctime_ns,
        ) = attributes
        entry.entry_timeout = self._entry_timeout
        entry.attr_timeout = self._attr_timeout
        return entry

    def _absent(self) -> pyfuse3.EntryAttributes:
        """A name that is not there, for the kernel to remember."""
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = 0
        entry.entry_timeout = self._entry_timeout
        return entry

    @_answering
    async def lookup(
        self, parent: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        try:
            return self._entry(self.filesystem.lookup(parent, name))
        except FileNotFoundError:
            return self._absent()

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for number, count in inode_list:
            try:
                self.filesystem.forget(number, count)
            except Exception as error:  # noqa: BLE001 there is nobody to answer
                self.filesystem.errno_of(error, number)

    @_answering
    async def getattr(
        self, number: int, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        return self._entry(self.filesystem.getattr(number))

    @_answering
    async def setattr(
        self,
        number: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        changes = Changes(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return self._entry(self.filesystem.setattr(number, changes))

    @_answering
    async def readlink(self, number: int, ctx: pyfuse3.RequestContext) -> bytes:
        return self.filesystem.readlink(number)

    @_answering
    async def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(self.filesystem.mknod(parent, name, mode, rdev, _caller(ctx)))

    @_answering
    async def mkdir(
        self, parent: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(self.filesystem.mkdir(parent, name, mode, _caller(ctx)))

    @_answering
    async def unlink(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self.filesystem.unlink(parent, name)

    @_answering
    async def rmdir(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self.filesystem.rmdir(parent, name)

    @_answering
    async def symlink(
        self, parent: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(self.filesystem.symlink(parent, name, target, _caller(ctx)))

    @_answering
    async def rename(
        self,
        parent: int,
        name: bytes,
        new_parent: int,
        new_name: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        names = (parent, name, new_parent, new_name, flags)
        wait = self.filesystem.begin_rename(*names)
        if wait is not None:
            await trio.to_thread.run_sync(wait)
        self.filesystem.rename(*names)

    @_answering
    async def link(
        self, number: int, new_parent: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        wait = self.filesystem.begin_link(number, new_parent, new_name)
        if wait is not None:
            await trio.to_thread.run_sync(wait)
        return self._entry(self.filesystem.link(number, new_parent, new_name))

    @_answering
    async def open(self, number: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        handle = self.filesystem.open(number, flags)
        return pyfuse3.FileInfo(fh=handle, keep_cache=self.filesystem.may_keep_cache(handle))

    @_answering
    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        attributes, handle = self.filesystem.create(parent, name, mode, flags, _caller(ctx))
        return pyfuse3.FileInfo(fh=handle, keep_cache=True), self._entry(attributes)

    @_answering_handle
    async def read(  # type: ignore[override]  # any buffer will do: it is written out at once
        self, handle: int, offset: int, length: int
    ) -> bytes | memoryview:
        return self.filesystem.read(handle, offset, length)

    @_answering_handle
    async def write(self, handle: int, offset: int, data: bytes) -> int:
        written = self.filesystem.write(handle, offset, data)
        while self.filesystem.crowded:  # noqa: ASYNC110 it waits for a disk, which says nothing
            await trio.sleep(_PAUSE_SECONDS)
        return written

    @_answering_handle
    async def flush(self, handle: int) -> None:
        self.filesystem.flush(handle)

    @_answering_handle
    async def release(self, handle: int) -> None:
        self.filesystem.release(handle)

    @_answering_handle
    async def fsync(self, handle: int, datasync: bool) -> None:
        wait = self.filesystem.begin_fsync(handle, data_only=datasync)
        await trio.to_thread.run_sync(wait)

    @_answering
    async def opendir(self, number: int, ctx: pyfuse3.RequestContext) -> int:
        return self.filesystem.opendir(number)

    @_answering_handle
    async def readdir(self, handle: int, start: int, token: pyfuse3.ReaddirToken) -> None:
        for name, attributes, following in self.filesystem.readdir(handle, start):
            if not pyfuse3.readdir_reply(token, name, self._entry(attributes), following):
                break
            if name not in _DOTS:
                self.filesystem.count_lookup(attributes.number)

    @_answering_handle
    async def releasedir(self, handle: int) -> None:
        self.filesystem.releasedir(handle)

    @_answering_handle
    async def fsyncdir(self, handle: int, datasync: bool) -> None:
        await trio.to_thread.run_sync(self.filesystem.begin_fsync_directory(handle))

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        try:
            status = self.filesystem.statfs()
        except Exception as error:  # noqa: BLE001 as everywhere here
            raise pyfuse3.FUSEError(self.filesystem.errno_of(error)) from None
        answer = pyfuse3.StatvfsData()
        for field in (
            "f_bsize",
            "f_frsize",
            "f_blocks",
            "f_bfree",
            "f_bavail",
            "f_files",
            "f_ffree",
            "f_favail",
        ):
            setattr(answer, field, getattr(status, field))
        answer.f_namemax = 255
        return answer

    @_answering
    async def getxattr(self, number: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        return self.filesystem.getxattr(number, name)

    @_answering
    async def setxattr(
        self, number: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        self.filesystem.setxattr(number, name, value, _caller(ctx))

    @_answering
    async def listxattr(self, number: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        return self.filesystem.listxattr(number)

    @_answering
    async def removexattr(self, number: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self.filesystem.removexattr(number, name)


def _caller(ctx: pyfuse3.RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid)


class _Option(str):
    """pyfuse3 asks for the ASCII of an option; the store's path in one need not be ASCII."""

    __slots__ = ()

    def encode(self, _encoding: str = "", _errors: str = "") -> bytes:
        return os.fsencode(str(self))


class Pyfuse3Transport:
    """One mount served by pyfuse3. `open` mounts, `serve` answers until unmounted, `close`."""

    def __init__(
        self, filesystem: Filesystem, *, entry_timeout: float, attr_timeout: float
    ) -> None:
        self._operations = Operations(
            filesystem, entry_timeout=entry_timeout, attr_timeout=attr_timeout
        )

    def open(self, mountpoint: str, options: set[str], source: str) -> None:
        """Mount; raises RuntimeError or OSError when the system refuses."""
        # A comma would end the option for libfuse.
        name = source.replace("\\", "\\\\").replace(",", "\\,")
        wanted = {*options, "subtype=ckfs", f"fsname={name}"}
        pyfuse3.init(self._operations, mountpoint, {_Option(option) for option in wanted})

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """The filesystem to oneself: whoever asks runs on the loop, as every request does."""
        yield

    async def serve(self) -> None:
        """Until the mount is gone or `stop` is called."""
        try:
            await pyfuse3.main()
        except* ConnectionAbortedError:
            # The mount was taken away while a worker was reading the next request.
            pass

    def drop_caches(self, known: Sequence[tuple[int, int, bytes]]) -> None:
        """Make the kernel ask again: pages, attributes and names. On a worker thread only.

        It waits for pages that the loop may just be filling, so a handler must never call it.
        """
        for number, parent, name in known:
            with suppress(OSError):
                pyfuse3.invalidate_inode(number, attr_only=False)
            if parent:
                with suppress(OSError):
                    pyfuse3.invalidate_entry_async(parent, name, ignore_enoent=True)

    def stop(self) -> None:
        """End `serve` from a task of the same loop."""
        pyfuse3.terminate()

    def close(self) -> None:
        """Unmount if that has not happened yet."""
        pyfuse3.close(unmount=True)
