"""Handlers of what is asked now and then: room, holes, copies, nameless files, attributes.

As in requests.py: parses, calls the filesystem, packs the answer.
"""

import errno
import stat

from fsdriver.changes import Changes
from fsdriver.errors import refuse
from fsdriver.namespace import Caller
from fsdriver.transport import protocol
from fsdriver.transport.protocol import Opcode
from fsdriver.transport.requests import Answer, Handler, Handlers, sized


class AllHandlers(Handlers):
    """Of one mount: all that there are."""

    def table(self) -> list[Handler]:
        """By opcode; ENOSYS for what there is not, which the kernel remembers."""
        table = super().table()
        table[Opcode.FALLOCATE] = self.fallocate
        table[Opcode.STATFS] = self.statfs
        table[Opcode.IOCTL] = self.ioctl
        table[Opcode.INTERRUPT] = self.interrupt
        table[Opcode.DESTROY] = self.destroy
        table[Opcode.LSEEK] = self.lseek
        table[Opcode.COPY_FILE_RANGE] = self.copy_file_range
        table[Opcode.TMPFILE] = self.tmpfile
        table[Opcode.STATX] = self.statx
        table[Opcode.SYNCFS] = self.syncfs
        table[Opcode.LISTXATTR] = self.listxattr
        table[Opcode.SETXATTR] = self.setxattr
        table[Opcode.REMOVEXATTR] = self.removexattr
        return table

    def fallocate(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        handle, offset, length, mode = protocol.FALLOCATE_IN.unpack_from(body)
        self._drop_set_ids(number, uid)
        self._filesystem.fallocate(handle, mode, offset, length)
        return protocol.error(unique, 0)

    def _drop_set_ids(self, number: int, uid: int) -> None:
        """Of a file that is about to be changed by who may not keep them.

        FUSE_HANDLE_KILLPRIV_V2 has a flag for a write, but none for an allocation or a copy.
        """
        if not uid:
            return
        if self._filesystem.getattr(number).mode & (stat.S_ISUID | stat.S_ISGID):
            self._filesystem.setattr(number, Changes(kill_priv=True))
            self._filesystem.set_ids_dropped(number)

    def lseek(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        handle, offset, whence = protocol.LSEEK_IN.unpack_from(body)
        return protocol.offset(unique, self._filesystem.lseek(handle, offset, whence))

    def copy_file_range(
        self, unique: int, number: int, body: memoryview, uid: int, gid: int
    ) -> Answer:
        handle, offset, number_out, handle_out, offset_out, length, _flags = (
            protocol.COPY_FILE_RANGE_IN.unpack_from(body)
        )
        self._drop_set_ids(number_out, uid)
        copied = self._filesystem.copy_file_range(handle, offset, handle_out, offset_out, length)
        return protocol.written(unique, copied)

    def tmpfile(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        flags, mode, _umask, _open_flags = protocol.CREATE_IN.unpack_from(body)
        made, handle = self._filesystem.tmpfile(number, mode, flags, Caller(uid, gid))
        return protocol.created(unique, made, self._entry, self._attr, handle, self._kept_open)

    def statx(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        attributes = self._filesystem.getattr(number)
        born = self._filesystem.birth_time_ns(number)
        return protocol.statx(unique, attributes, self._attr, born)

    def syncfs(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        wait = self._filesystem.begin_syncfs()
        return self._later(unique, number, wait, lambda: protocol.error(unique, 0))

    def listxattr(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        (room,) = protocol.GETXATTR_IN.unpack_from(body)
        names = b"".join(name + b"\0" for name in self._filesystem.listxattr(number))
        return sized(unique, names, room)

    def setxattr(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        size, flags = protocol.SETXATTR_IN.unpack_from(body)
        name, _zero, value = bytes(body[protocol.SETXATTR_IN.size :]).partition(b"\0")
        self._filesystem.setxattr(number, name, value[:size], Caller(uid, gid), flags)
        return protocol.error(unique, 0)

    def removexattr(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._filesystem.removexattr(number, bytes(body[:-1]))
        return protocol.error(unique, 0)

    def statfs(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        status = self._filesystem.statfs()
        return protocol.statfs(
            unique,
            status.f_blocks,
            status.f_bfree,
            status.f_bavail,
            status.f_files,
            status.f_ffree,
            status.f_bsize,
            status.f_frsize,
            255,
        )

    def ioctl(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        raise refuse(errno.ENOTTY)

    def interrupt(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        """What is under way comes to its end: a sync cannot be called back."""
        return None

    def destroy(self, unique: int, number: int, body: memoryview, uid: int, gid: int) -> Answer:
        return protocol.error(unique, 0)
