"""One handler for each opcode: parses a request's body, calls the filesystem, packs the answer.

A handler is called with a memoryview of the request behind its header, and answers with bytes, or
with a list of buffers, or with None where the kernel expects nothing or the answer comes later.
What it raises becomes the errno of the answer (wire.py). Decides nothing.
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from fsdriver.attributes import Attributes
from fsdriver.changes import Changes
from fsdriver.errors import refuse
from fsdriver.filesystem import Filesystem
from fsdriver.namespace import Caller
from fsdriver.transport import protocol
from fsdriver.transport.pastcache import PastCache
from fsdriver.transport.protocol import Opcode
from fsdriver.transport.wholechunks import WholeChunks
from fsdriver.xattrs import NEVER_THERE

Answer = bytes | list[bytes | memoryview] | None
Handler = Callable[[int, int, memoryview, int, int], Answer]
"""(unique, inode number, body, uid, gid)."""

Later = Callable[[int, int, Callable[[], None], Callable[[], Answer]], Answer]
"""(unique, inode number, wait, then): answer what `then` gives, once `wait` has returned.

`wait` may run on another thread; `then` runs with the filesystem to itself.
"""

_DOTS: Final = (b".", b"..")
_SECOND: Final = 1_000_000_000
_RELEASED_AT_MOST: Final = 64
"""Handles that were closed and are not yet given back."""


class Timeouts(NamedTuple):
    """For how long the kernel may answer by itself."""

    entry: protocol.Valid
    attr: protocol.Valid


class Handlers:
    """Of one mount."""

    def __init__(
        self,
        filesystem: Filesystem,
        timeouts: Timeouts,
        later: Later,
        whole_chunks: WholeChunks,
    ) -> None:
        self._filesystem = filesystem
        self._entry, self._attr = timeouts
        self._later = later
        self._kept_open = protocol.FOPEN_KEEP_CACHE
        self.no_flush = 0
        """FOPEN_NOFLUSH for handles whose close has nothing to say."""
        self.past_cache = PastCache()
        self._whole_chunks = whole_chunks
        self._chunk_size = filesystem.chunk_size
        self._released: deque[int] = deque()
        self._opened = 0
        """The handle that was opened last, if it will be read from soon."""

    def table(self) -> list[Handler]:
        """By opcode; ENOSYS for what there is not, which the kernel remembers."""
        table: list[Handler] = [self._unknown] * protocol.OPCODES
        table[Opcode.LOOKUP] = self.lookup
        table[Opcode.FORGET] = self.forget
        table[Opcode.GETATTR] = self.getattr
        table[Opcode.SETATTR] = self.setattr
        table[Opcode.READLINK] = self.readlink
        table[Opcode.SYMLINK] = self.symlink
        table[Opcode.MKNOD] = self.mknod
        table[Opcode.MKDIR] = self.mkdir
        table[Opcode.UNLINK] = self.unlink
        table[Opcode.RMDIR] = self.rmdir
        table[Opcode.RENAME] = self.rename
        table[Opcode.RENAME2] = self.rename2
        table[Opcode.LINK] = self.link
        table[Opcode.OPEN] = self.open
        table[Opcode.CREATE] = self.create
        table[Opcode.READ] = self.read
        table[Opcode.WRITE] = self.write
        table[Opcode.RELEASE] = self.release
        table[Opcode.FLUSH] = self.flush
        table[Opcode.FSYNC] = self.fsync
        table[Opcode.GETXATTR] = self.getxattr
        table[Opcode.OPENDIR] = self.opendir
        table[Opcode.READDIR] = self.readdir
        table[Opcode.READDIRPLUS] = self.readdirplus
        table[Opcode.RELEASEDIR] = self.releasedir
        table[Opcode.FSYNCDIR] = self.fsyncdir
        table[Opcode.BATCH_FORGET] = self.batch_forget
        return table

    def _unknown(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        return protocol.error(unique, errno.ENOSYS)

    # Names

    def lookup(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        try:
            attributes = self._filesystem.lookup(number, bytes(body[:-1]))
        except FileNotFoundError:
            return protocol.absent(unique, self._entry)
        return protocol.entry(unique, attributes, self._entry, self._attr)

    def forget(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._filesystem.forget(number, protocol.FORGET_IN.unpack_from(body)[0])
        return None

    def batch_forget(
        self, unique: int, number: int, body: memoryview, uid: int, gid: int
    ) -> Answer:
        (count,) = protocol.BATCH_FORGET_IN.unpack_from(body)
        at = protocol.BATCH_FORGET_IN.size
        for inode, lookups in protocol.FORGET_ONE.iter_unpack(
            body[at : at + count * protocol.FORGET_ONE.size]
        ):
            try:
                self._filesystem.forget(inode, lookups)
            except Exception as error:  # noqa: BLE001 the others are to be forgotten, too
                self._filesystem.errno_of(error, inode)
        return None

    def readlink(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        target = self._filesystem.readlink(number)
        return protocol.head(unique, len(target)) + target

    def _made(self, unique: int, attributes: Attributes) -> bytes:
        return protocol.entry(unique, attributes, self._entry, self._attr)

    def symlink(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        name, target, _end = bytes(body).split(b"\0")
        made = self._filesystem.symlink(number, name, target, Caller(uid, gid))
        return self._made(unique, made)

    def mknod(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        mode, device, _umask = protocol.MKNOD_IN.unpack_from(body)
        name = bytes(body[protocol.MKNOD_IN.size : -1])
        made = self._filesystem.mknod(number, name, mode, device, Caller(uid, gid))
        return self._made(unique, made)

    def mkdir(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        mode, _umask = protocol.MKDIR_IN.unpack_from(body)
        name = bytes(body[protocol.MKDIR_IN.size : -1])
        return self._made(unique, self._filesystem.mkdir(number, name, mode, Caller(uid, gid)))

    def unlink(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._filesystem.unlink(number, bytes(body[:-1]))
        return protocol.error(unique, 0)

    def rmdir(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._filesystem.rmdir(number, bytes(body[:-1]))
        return protocol.error(unique, 0)

    def rename(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        (folder,) = protocol.RENAME_IN.unpack_from(body)
        return self._rename(unique, number, folder, body[protocol.RENAME_IN.size :], 0)

    def rename2(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        folder, flags = protocol.RENAME2_IN.unpack_from(body)
        return self._rename(unique, number, folder, body[protocol.RENAME2_IN.size :], flags)

    def _rename(
        self, unique: int, number: int, folder: int, names: memoryview, flags: int
    ) -> Answer:
        name, new_name, _end = bytes(names).split(b"\0")
        filesystem = self._filesystem
        at_once = True

        def then() -> Answer:
            filesystem.rename(number, name, folder, new_name, flags, at_once=at_once)
            return protocol.error(unique, 0)

        wait = filesystem.begin_rename(number, name, folder, new_name, flags)
        answer = then() if wait is None else self._later(unique, number, wait, then)
        # What waits on another thread comes after other requests, and never before this one ends.
        at_once = False
        return answer

    def link(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        (inode,) = protocol.LINK_IN.unpack_from(body)
        name = bytes(body[protocol.LINK_IN.size : -1])
        filesystem = self._filesystem

        def then() -> Answer:
            return self._made(unique, filesystem.link(inode, number, name))

        wait = filesystem.begin_link(inode, number, name)
        return then() if wait is None else self._later(unique, inode, wait, then)

    # Status

    def getattr(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        return protocol.attr(unique, self._filesystem.getattr(number), self._attr)

    def setattr(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        (
            valid, _handle, size, atime, mtime, _ctime, atime_ns, mtime_ns, _ctime_ns, mode,
            owner, group,
        ) = protocol.SETATTR_IN.unpack_from(body)  # fmt: skip
        changes = Changes(
            mode=mode if valid & protocol.FATTR_MODE else None,
            uid=owner if valid & protocol.FATTR_UID else None,
            gid=group if valid & protocol.FATTR_GID else None,
            size=size if valid & protocol.FATTR_SIZE else None,
            atime_ns=_time(atime, atime_ns) if valid & protocol.FATTR_ATIME else None,
            mtime_ns=_time(mtime, mtime_ns) if valid & protocol.FATTR_MTIME else None,
            kill_priv=valid & protocol.FATTR_KILL_SUIDGID != 0,
        )
        return protocol.attr(unique, self._filesystem.setattr(number, changes), self._attr)

    # Content

    def open(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._opened = 0
        while self._released:
            self.idle()  # so that what was closed before is judged anew
        flags, open_flags = protocol.OPEN_IN.unpack_from(body)
        kill_priv = open_flags & protocol.OPEN_KILL_SUIDGID != 0
        handle = self._filesystem.open(number, flags, kill_priv)
        self.past_cache.opened(number)
        keep = self._kept_open if self._filesystem.may_keep_cache(handle) else 0
        if not flags & os.O_ACCMODE:
            self._opened = 0 if keep else handle
            keep |= self.no_flush
        return protocol.opened(unique, handle, keep)

    def create(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        flags, mode, _umask, _open_flags = protocol.CREATE_IN.unpack_from(body)
        name = bytes(body[protocol.CREATE_IN.size : -1])
        made, handle = self._filesystem.create(number, name, mode, flags, Caller(uid, gid))
        # What is still to be sealed at its close is whole without that, too (FORMAT.md 12).
        keep = self._kept_open | self.no_flush | self.past_cache.made(made.number, handle, flags)
        return protocol.created(unique, made, self._entry, self._attr, handle, keep)

    def read(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        handle, offset, length, flags = protocol.READ_IN.unpack_from(body)
        self._opened = 0
        data = self._filesystem.read(handle, offset, length)
        if length < self._chunk_size and self._whole_chunks.allowed and not flags & os.O_DIRECT:
            most = self._whole_chunks.asked(handle, offset, len(data))
            if most:
                self._hand_over(number, handle, offset, most)
        return [protocol.head(unique, len(data)), data]

    def _hand_over(self, number: int, handle: int, offset: int, most: int) -> None:
        """The whole chunk of what was just read, of a file with no more than `most` of them."""
        if self._whole_chunks.full(self._chunk_size):
            return
        content = self._filesystem.settled_chunk(handle, offset, most)
        if content is not None:
            self._filesystem.count_lookup(number)
            self._whole_chunks.hand_over(number, offset - offset % self._chunk_size, content)

    def _take_back(self) -> None:
        """The lookups that are over because what was handed over has arrived."""
        while number := self._whole_chunks.arrived():
            self._filesystem.forget(number, 1)

    def write(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        handle, offset, size, flags = protocol.WRITE_IN.unpack_from(body)
        at = protocol.WRITE_IN.size
        taken = self._filesystem.write(
            handle, offset, body[at : at + size], flags & protocol.WRITE_KILL_SUIDGID != 0
        )
        return protocol.written(unique, taken)

    def flush(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._filesystem.flush(protocol.HANDLE_IN.unpack_from(body)[0])
        return protocol.error(unique, 0)

    def release(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        """Nobody waits for it, so the next request goes first."""
        if len(self._released) > _RELEASED_AT_MOST:
            self.idle()
        (handle,) = protocol.HANDLE_IN.unpack_from(body)
        self.past_cache.released(number, handle)
        self._whole_chunks.released(handle)
        self._released.append(handle)
        return protocol.error(unique, 0)

    def idle(self) -> bool:
        """While nobody asks: a step of what was put off; false when nothing is left."""
        if self._opened:
            handle, self._opened = self._opened, 0
            self._filesystem.read_ahead(handle)
            return True
        if not self._released:
            self._take_back()
            return self._filesystem.idle()
        handle = self._released.popleft()
        number = self._filesystem.number_of(handle)
        try:
            self._filesystem.release(handle)
        except Exception as error:  # noqa: BLE001 there is nobody to answer
            self._filesystem.errno_of(error, number)
        return True

    def fsync(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        handle, flags = protocol.FSYNC_IN.unpack_from(body)
        data_only = bool(flags & protocol.FSYNC_FDATASYNC)
        wait = self._filesystem.begin_fsync(handle, data_only=data_only)
        return self._later(unique, number, wait, lambda: protocol.error(unique, 0))

    # Folders

    def opendir(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        handle = self._filesystem.opendir(number)
        keep = self._kept_open if self._filesystem.may_keep_listing(handle) else 0
        return protocol.opened(unique, handle, keep | protocol.FOPEN_CACHE_DIR)

    def readdir(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        handle, start, room, _flags = protocol.READ_IN.unpack_from(body)
        parts: list[bytes] = []
        length = 0
        for name, inode, kind, following in self._filesystem.names(handle, start):
            packed = protocol.dirent(name, inode, following, kind)
            length += len(packed)
            if length > room:
                break
            parts.append(packed)
        return _joined(unique, parts)

    def readdirplus(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        handle, start, room, _flags = protocol.READ_IN.unpack_from(body)
        parts: list[bytes] = []
        length = 0
        try:
            for name, attributes, following in self._filesystem.readdir(handle, start):
                counted = name not in _DOTS
                packed = protocol.direntplus(
                    name, attributes, following, self._entry, self._attr, counted=counted
                )
                length += len(packed)
                if length > room:
                    break
                parts.append(packed)
                if counted:
                    self._filesystem.count_lookup(attributes.number)
        except Exception:
            # What is counted must be passed on. The next call begins where this one ended, and
            # hears of it.
            if not parts:
                raise
        return _joined(unique, parts)

    def releasedir(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._filesystem.releasedir(protocol.HANDLE_IN.unpack_from(body)[0])
        return protocol.error(unique, 0)

    def fsyncdir(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        (handle,) = protocol.HANDLE_IN.unpack_from(body)
        wait = self._filesystem.begin_fsync_directory(handle)
        return self._later(unique, number, wait, lambda: protocol.error(unique, 0))

    # Extended attributes

    def getxattr(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        (room,) = protocol.GETXATTR_IN.unpack_from(body)
        name = bytes(body[protocol.GETXATTR_IN.size : -1])
        if name == NEVER_THERE:
            return protocol.error(unique, errno.ENODATA)
        return sized(unique, self._filesystem.getxattr(number, name), room)


def _time(seconds: int, nanoseconds: int) -> int:
    """The protocol's seconds are unsigned; those before 1970 are not."""
    if seconds >> 63:
        seconds -= 1 << 64
    return seconds * _SECOND + nanoseconds


def _joined(unique: int, parts: Sequence[bytes]) -> bytes:
    body = b"".join(parts)
    return protocol.head(unique, len(body)) + body


def sized(unique: int, value: bytes, room: int) -> bytes:
    """The value, or its size for who asks with no room. Raises ERANGE."""
    if not room:
        return protocol.written(unique, len(value))
    if len(value) > room:
        raise refuse(errno.ERANGE)
    return protocol.head(unique, len(value)) + value
