"""The only I/O on ciphertext: descriptors and backing names in, bytes and stat results out.

Every name is resolved against an open folder and no symlink is ever followed, so that nothing
planted in the store leads out of it. An object, not functions: a recording, failing or remote
store takes its place without a change elsewhere. Knows no key and no plaintext.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from fsdriver.errors import NotAFile

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO planted under a file's name must not hang the driver at open.
_FILE: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.renameat2.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
)

_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_KEEP_SIZE: Final = 1
_PUNCH_HOLE: Final = 2
_ZERO_RANGE: Final = 16

_libc.statx.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_char_p,
)
_AT_ENTRY: Final = 0x1100  # AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW
_BIRTH_TIME: Final = 0x800
_STATX_SIZE: Final = 256
_MASK = struct.Struct("=I")
_TIMESTAMP = struct.Struct("=qI")
_BIRTH_TIME_AT: Final = 80


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


_NOW: Final = (1 << 30) - 1
_OMIT: Final = (1 << 30) - 2
_MODIFIED_NOW = (_TimeSpec * 2)(_TimeSpec(0, _OMIT), _TimeSpec(0, _NOW))

Buffer = bytes | bytearray | memoryview


class Backing:
    """The store's filesystem. Raises OSError as the system gives it."""

    spare: Callable[[], bool] = staticmethod(lambda: False)
    """Closes what is open for speed alone; False if there is no such thing. Asked once when the
    system refuses a descriptor."""

    def _open(self, name: str, flags: int, folder: int, mode: int = 0o777) -> int:
        try:
            return os.open(name, flags, mode, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self.spare():
                raise
        return os.open(name, flags, mode, dir_fd=folder)

    def open_root(self, path: str) -> int:
        """A descriptor of the store's folder."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open_directory(self, folder: int, name: str) -> int:
        """A descriptor of a folder in `folder`."""
        return self._open(name, _DIRECTORY, folder)

    def stat(self, folder: int, name: str) -> os.stat_result:
        """Of the entry itself, never of what it points to."""
        return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def stat_open(self, descriptor: int) -> os.stat_result:
        """Of an open file or folder."""
        return os.fstat(descriptor)

    def birth_time_ns(self, folder: int, name: str) -> int | None:
        """When an entry was made, or without a name an open file or folder; None: not kept."""
        found = ctypes.create_string_buffer(_STATX_SIZE)
        _checked(_libc.statx(folder, os.fsencode(name), _AT_ENTRY, _BIRTH_TIME, found))
        if not _MASK.unpack_from(found)[0] & _BIRTH_TIME:
            return None
        seconds, nanoseconds = _TIMESTAMP.unpack_from(found, _BIRTH_TIME_AT)
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    def statvfs(self, descriptor: int) -> os.statvfs_result:
        """Of the filesystem that holds the store."""
        return os.fstatvfs(descriptor)

    def entries(self, folder: int) -> Iterator[tuple[str, int]]:
        """(backing name, d_type-like file type of S_IFMT or 0) of every entry, unsorted."""
        with os.scandir(folder) as listing:
            for entry in listing:
                if entry.is_symlink():
                    yield entry.name, stat.S_IFLNK
                elif entry.is_dir(follow_symlinks=False):
                    yield entry.name, stat.S_IFDIR
                elif entry.is_file(follow_symlinks=False):
                    yield entry.name, stat.S_IFREG
                else:
                    yield entry.name, 0

    def inodes(self, folder: int) -> Iterator[tuple[str, int, int]]:
        """(backing name, file type as in `entries`, inode number), without a stat for each."""
        with os.scandir(folder) as listing:
            for entry in listing:
                if entry.is_file(follow_symlinks=False):
                    kind = stat.S_IFREG
                elif entry.is_dir(follow_symlinks=False):
                    kind = stat.S_IFDIR
                else:
                    kind = stat.S_IFLNK if entry.is_symlink() else 0
                yield entry.name, kind, entry.inode()

    def create_file(self, folder: int, name: str, mode: int) -> int:
        """A new file, open for reading and writing; EEXIST when the name is taken."""
        return self._open(name, _FILE | os.O_RDWR | os.O_CREAT | os.O_EXCL, folder, mode)

    def create_nameless(self, folder: int, mode: int) -> int:
        """A new file that has no name until `link_open`; EOPNOTSUPP where there is no such thing.

        What knows nothing of it may also say EISDIR, ENOENT or EINVAL.
        """
        return self._open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, folder, mode)

    def open_file(self, folder: int, name: str, *, writable: bool) -> int:
        """An existing regular file; anything else under that name is refused with EIO."""
        return self.open_status(folder, name, writable=writable)[0]

    def open_status(self, folder: int, name: str, *, writable: bool) -> tuple[int, os.stat_result]:
        """As `open_file`, and what the file is at that moment.

        The owner may lack permission on a file of their own; the driver still has to read its
        header to write to it, so it widens the mode for the moment of the open.
        """
        flags = _FILE | (os.O_RDWR if writable else os.O_RDONLY)
        try:
            descriptor = self._open(name, flags, folder)
        except PermissionError:
            status = self.stat(folder, name)
            if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
                raise
            mode = stat.S_IMODE(status.st_mode)
            self.change_mode(folder, name, mode | 0o600)
            try:
                descriptor = self._open(name, flags, folder)
            finally:
                self.change_mode(folder, name, mode)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise NotAFile(errno.EIO, "the store has something else where a file was", name)
        return descriptor, status

    def close(self, descriptor: int) -> None:
        """Of a file or a folder."""
        os.close(descriptor)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file."""
        return os.pread(descriptor, length, offset)

    def read_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        """Fill `buffer`; returns fewer bytes only at the end of the file."""
        length = len(buffer)
        done = os.preadv(descriptor, [buffer], offset)
        while 0 < done < length:
            count = os.preadv(descriptor, [buffer[done:]], offset + done)
            if not count:
                break
            done += count
        return done

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        """All of `buffers`, one behind the other, in one call if the system takes them so."""
        written = os.pwritev(descriptor, buffers, offset)
        total = sum(map(len, buffers))
        if written < total:
            rest = memoryview(b"".join(buffers))
            while written < total:
                written += os.pwrite(descriptor, rest[written:], offset + written)

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut or extend; what is new is a hole."""
        os.ftruncate(descriptor, length)

    def data_runs(self, descriptor: int, offset: int) -> Iterator[tuple[int, int]]:
        """[start, end) of what is no hole, from `offset` on; all of it where holes are not known.

        Moves the descriptor's own position, which nothing here uses.
        """
        end = os.fstat(descriptor).st_size
        while offset < end:
            try:
                offset = os.lseek(descriptor, offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return  # a hole up to the end
                raise
            stop = os.lseek(descriptor, offset, os.SEEK_HOLE)
            yield offset, stop
            offset = stop

    def sync(self, descriptor: int) -> None:
        """fsync of a file or a folder."""
        os.fsync(descriptor)

    def sync_data(self, descriptor: int) -> None:
        """fdatasync: content and length, not times."""
        os.fdatasync(descriptor)

    def sync_filesystem(self, descriptor: int) -> None:
        """syncfs: everything that was written to the filesystem that holds the store."""
        _checked(_libc.syncfs(descriptor))

    def reserve(self, descriptor: int, offset: int, length: int) -> None:
        """Have room for bytes that are to be written, without making the file longer.

        Raises ENOSPC or EDQUOT; where the system cannot promise room, nothing happens.
        """
        if _libc.fallocate(descriptor, _KEEP_SIZE, offset, length):
            code = ctypes.get_errno()
            if code in (errno.ENOSPC, errno.EDQUOT):
                raise OSError(code, os.strerror(code))

    def allocate(self, descriptor: int, offset: int, length: int) -> None:
        """As `reserve`, for somebody who has to know: EOPNOTSUPP where no room can be promised."""
        _checked(_libc.fallocate(descriptor, _KEEP_SIZE, offset, length))

    def zero(self, descriptor: int, offset: int, length: int) -> None:
        """Make bytes zeros, and keep their room where the system can promise it."""
        if _libc.fallocate(descriptor, _KEEP_SIZE | _ZERO_RANGE, offset, length):
            self.clear(descriptor, offset, length)
            self.reserve(descriptor, offset, length)

    def clear(self, descriptor: int, offset: int, length: int) -> None:
        """Make bytes zeros, as a hole where the system can."""
        if _libc.fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, offset, length):
            while length > 0:
                step = min(length, 1 << 20)
                self.write(descriptor, [bytes(step)], offset)
                offset, length = offset + step, length - step

    def duplicate(self, descriptor: int) -> int:
        """For a thread that must not see the descriptor closed under it."""
        return os.dup(descriptor)

    def make_directory(self, folder: int, name: str, mode: int) -> None:
        """mkdirat."""
        os.mkdir(name, mode, dir_fd=folder)

    def make_node(self, folder: int, name: str, mode: int, device: int) -> None:
        """A FIFO, socket or device node: they have no content to encrypt."""
        os.mknod(name, mode, device, dir_fd=folder)

    def make_symlink(self, folder: int, name: str, text: str) -> None:
        """symlinkat."""
        os.symlink(text, name, dir_fd=folder)

    def read_symlink(self, folder: int, name: str) -> str:
        """readlinkat."""
        return os.readlink(name, dir_fd=folder)

    def link(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        """Another name for a file, symlinks themselves included."""
        os.link(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder, follow_symlinks=False)

    def link_open(self, descriptor: int, new_folder: int, new_name: str) -> None:
        """The first name of a file from `create_nameless`.

        By way of /proc: AT_EMPTY_PATH would take a privilege that the driver has given up.
        """
        os.link(f"/proc/self/fd/{descriptor}", new_name, dst_dir_fd=new_folder)

    def unlink(self, folder: int, name: str) -> None:
        """unlinkat."""
        os.unlink(name, dir_fd=folder)

    def remove_directory(self, folder: int, name: str) -> None:
        """rmdir."""
        os.rmdir(name, dir_fd=folder)

    def rename(
        self, folder: int, name: str, new_folder: int, new_name: str, flags: int = 0
    ) -> None:
        """renameat2; flags are RENAME_NOREPLACE or RENAME_EXCHANGE."""
        if not flags:
            os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder)
        elif _libc.renameat2(folder, os.fsencode(name), new_folder, os.fsencode(new_name), flags):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)

    def change_mode(self, folder: int, name: str, mode: int) -> None:
        """Permission bits of a file, folder or node; EOPNOTSUPP for a symlink.

        chmod(2) follows symlinks, so the entry is pinned before its mode is changed.
        """
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.chmod(f"/proc/self/fd/{descriptor}", mode)
        finally:
            os.close(descriptor)

    def change_owner(self, folder: int, name: str, uid: int, gid: int) -> None:
        """-1 leaves one as it is."""
        os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)

    def change_times(self, folder: int, name: str, atime_ns: int, mtime_ns: int) -> None:
        """utimensat of the entry itself."""
        os.utime(name, ns=(atime_ns, mtime_ns), dir_fd=folder, follow_symlinks=False)

    def change_open_mode(self, descriptor: int, mode: int) -> None:
        """fchmod."""
        os.fchmod(descriptor, mode)

    def change_open_owner(self, descriptor: int, uid: int, gid: int) -> None:
        """fchown."""
        os.fchown(descriptor, uid, gid)

    def change_open_times(self, descriptor: int, atime_ns: int, mtime_ns: int) -> None:
        """futimens."""
        os.utime(descriptor, ns=(atime_ns, mtime_ns))

    def touch(self, descriptor: int) -> None:
        """Modified now, without a write."""
        _checked(_libc.futimens(descriptor, _MODIFIED_NOW))

    def xattr_names(self, folder: int, name: str) -> list[str]:
        """Attributes of an entry itself, or without a name of the open file or folder."""
        return os.listxattr(_at(folder, name), follow_symlinks=not name)

    def get_xattr(self, folder: int, name: str, attribute: str) -> bytes:
        """ENODATA when there is none."""
        return os.getxattr(_at(folder, name), attribute, follow_symlinks=not name)

    def set_xattr(self, folder: int, name: str, attribute: str, value: bytes, flags: int) -> None:
        """Flags are os.XATTR_CREATE and os.XATTR_REPLACE."""
        os.setxattr(_at(folder, name), attribute, value, flags, follow_symlinks=not name)

    def remove_xattr(self, folder: int, name: str, attribute: str) -> None:
        """ENODATA when there is none."""
        os.removexattr(_at(folder, name), attribute, follow_symlinks=not name)


def _checked(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _at(folder: int, name: str) -> str | int:
    """There is no getxattrat before Linux 6.13: the folder's entry in /proc stands for it."""
    return f"/proc/self/fd/{folder}/{name}" if name else folder
