"""The kernel's FUSE protocol as bytes: opcodes, flags and structures (linux/fuse.h, 7.31 to 7.45).

Little- or big-endian as the machine is, since both ends are one machine. PURE: parses and packs,
decides nothing. Every structure's name is that of the header, without `fuse_` and in capitals.
"""

import os
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

from fsdriver.attributes import Attributes

MAJOR: Final = 7
MINOR: Final = 40
"""The newest minor version whose structures are used here; the kernel takes the lower of two."""
OLDEST_MINOR: Final = 31


class Opcode(IntEnum):
    """What the kernel asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52


OPCODES: Final = 64
"""More than there are."""


class InitFlag(IntFlag):
    """What two ends of a connection can agree on, as one 64-bit number."""

    ASYNC_READ = 1 << 0
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    EXPLICIT_INVAL_DATA = 1 << 25
    HANDLE_KILLPRIV_V2 = 1 << 28
    INIT_EXT = 1 << 30
    DIRECT_IO_ALLOW_MMAP = 1 << 36


FOPEN_DIRECT_IO: Final = 1 << 0
FOPEN_KEEP_CACHE: Final = 1 << 1
FOPEN_CACHE_DIR: Final = 1 << 3
FOPEN_NOFLUSH: Final = 1 << 5

FATTR_MODE: Final = 1 << 0
FATTR_UID: Final = 1 << 1
FATTR_GID: Final = 1 << 2
FATTR_SIZE: Final = 1 << 3
FATTR_ATIME: Final = 1 << 4
FATTR_MTIME: Final = 1 << 5
FATTR_ATIME_NOW: Final = 1 << 7
FATTR_MTIME_NOW: Final = 1 << 8
FATTR_KILL_SUIDGID: Final = 1 << 11

WRITE_CACHE: Final = 1 << 0
WRITE_KILL_SUIDGID: Final = 1 << 2
OPEN_KILL_SUIDGID: Final = 1 << 0
FSYNC_FDATASYNC: Final = 1 << 0

NOTIFY_INVAL_INODE: Final = 2
NOTIFY_INVAL_ENTRY: Final = 3
NOTIFY_STORE: Final = 4

IN_HEADER: Final = Struct("=IIQQII8x")
"""Length, opcode, unique, nodeid, uid, gid; pid and extensions are nobody's business here."""
OUT_HEADER: Final = Struct("=IiQ")

INIT_IN: Final = Struct("=IIII")
INIT_IN_HIGH: Final = Struct("=I")
"""What follows INIT_IN where the kernel knows flags beyond the 32nd: from 7.36 on."""
_INIT_OUT: Final = Struct("=IIIIHHIIHHIIH22x")
_ENTRY: Final = Struct("=IiQ QQQQII QQQQQQ IIIIIIIIII")
_CREATED: Final = Struct("=IiQ QQQQII QQQQQQ IIIIIIIIII QI4x")
_ATTR: Final = Struct("=IiQ QI4x QQQQQQ IIIIIIIIII")
_OPEN: Final = Struct("=IiQ QI4x")
_WRITTEN: Final = Struct("=IiQ I4x")
_NUMBER: Final = Struct("=IiQ Q")
_STATFS: Final = Struct("=IiQ QQQQQ IIII 24x")
_STATX: Final = Struct("=IiQ QI4x16x IIQIIIH2xQQQQ qI4x qI4x qI4x qI4x IIII112x")
_DIRENT: Final = Struct("=QQII")
_DIRENTPLUS: Final = Struct("=QQQQII QQQQQQ IIIIIIIIII QQII")
_INVAL_INODE: Final = Struct("=IiQ Qqq")
_INVAL_ENTRY: Final = Struct("=IiQ QII")
_STORE: Final = Struct("=IiQ QQI4x")

HANDLE_IN: Final = Struct("=Q")
"""Where a structure begins with a handle and nothing else matters."""
GETATTR_IN: Final = Struct("=I4xQ")
SETATTR_IN: Final = Struct("=I4x QQ 8x QQQIII I4xII4x")
MKNOD_IN: Final = Struct("=III4x")
MKDIR_IN: Final = Struct("=II")
RENAME_IN: Final = Struct("=Q")
RENAME2_IN: Final = Struct("=QI4x")
LINK_IN: Final = Struct("=Q")
CREATE_IN: Final = Struct("=IIII")
OPEN_IN: Final = Struct("=II")
READ_IN: Final = Struct("=QQI12xI4x")
WRITE_IN: Final = Struct("=QQII16x")
FSYNC_IN: Final = Struct("=QI4x")
SETXATTR_IN: Final = Struct("=II")
GETXATTR_IN: Final = Struct("=I4x")
FORGET_IN: Final = Struct("=Q")
BATCH_FORGET_IN: Final = Struct("=I4x")
FORGET_ONE: Final = Struct("=QQ")
FALLOCATE_IN: Final = Struct("=QQQI4x")
LSEEK_IN: Final = Struct("=QQI4x")
COPY_FILE_RANGE_IN: Final = Struct("=QQQQQQQ")

LARGEST_ERROR: Final = 511
"""The kernel takes no larger errno for an answer, and whoever asked would wait for ever."""

_SECOND: Final = 1_000_000_000
_U64: Final = (1 << 64) - 1
"""Times before 1970 are negative, and the protocol's fields are not."""
_STATX_BASIC: Final = 0x7FF
_STATX_BTIME: Final = 0x800

Valid = tuple[int, int]
"""For how long the kernel may believe something: seconds, nanoseconds."""


def valid_for(seconds: float) -> Valid:
    """A timeout as the protocol has it."""
    whole = int(seconds)
    return whole, int((seconds - whole) * _SECOND)


def offered(body: memoryview) -> tuple[int, int, int, int]:
    """What INIT says: major and minor version, read-ahead in bytes, InitFlags."""
    major, minor, max_readahead, flags = INIT_IN.unpack_from(body)
    if flags & InitFlag.INIT_EXT:
        flags |= INIT_IN_HIGH.unpack_from(body, INIT_IN.size)[0] << 32
    return major, minor, max_readahead, flags


def error(unique: int, code: int) -> bytes:
    """Code 0 for what succeeded and has nothing to say."""
    return OUT_HEADER.pack(16, -code, unique)


def head(unique: int, length: int) -> bytes:
    """Before `length` bytes that are written with it."""
    return OUT_HEADER.pack(16 + length, 0, unique)


def init(
    unique: int,
    minor: int,
    flags: int,
    *,
    max_readahead: int,
    max_write: int,
    max_pages: int,
    max_background: int,
) -> bytes:
    """Requests of up to `max_pages` pages, writes of up to `max_write` bytes; `max_background` of
    them may be under way at once."""
    return head(unique, _INIT_OUT.size) + _INIT_OUT.pack(
        MAJOR,
        minor,
        max_readahead,
        flags & 0xFFFFFFFF,
        max_background,
        max_background * 3 // 4,
        max_write,
        1,
        max_pages,
        0,
        flags >> 32,
        0,
        0,
    )


def entry(unique: int, attributes: Attributes, entry_valid: Valid, attr_valid: Valid) -> bytes:
    """An inode that was looked up or made."""
    number, mode, nlink, uid, gid, rdev, size, blocks, block_size, atime, mtime, ctime = attributes
    asec, ansec = divmod(atime, _SECOND)
    msec, mnsec = divmod(mtime, _SECOND)
    csec, cnsec = divmod(ctime, _SECOND)
    seconds, nanoseconds = entry_valid
    attr_seconds, attr_nanoseconds = attr_valid
    return _ENTRY.pack(
        144, 0, unique,
        number, 0, seconds, attr_seconds, nanoseconds, attr_nanoseconds,
        number, size, blocks, asec & _U64, msec & _U64, csec & _U64,
        ansec, mnsec, cnsec, mode, nlink, uid, gid, rdev, block_size, 0,
    )  # fmt: skip


def absent(unique: int, entry_valid: Valid) -> bytes:
    """A name that is not there, for the kernel to remember."""
    seconds, nanoseconds = entry_valid
    return _ENTRY.pack(144, 0, unique, 0, 0, seconds, 0, nanoseconds, *(0,) * 17)


def created(
    unique: int,
    attributes: Attributes,
    entry_valid: Valid,
    attr_valid: Valid,
    handle: int,
    flags: int,
) -> bytes:
    """An inode that was made and opened."""
    number, mode, nlink, uid, gid, rdev, size, blocks, block_size, atime, mtime, ctime = attributes
    asec, ansec = divmod(atime, _SECOND)
    msec, mnsec = divmod(mtime, _SECOND)
    csec, cnsec = divmod(ctime, _SECOND)
    seconds, nanoseconds = entry_valid
    attr_seconds, attr_nanoseconds = attr_valid
    return _CREATED.pack(
        160, 0, unique,
        number, 0, seconds, attr_seconds, nanoseconds, attr_nanoseconds,
        number, size, blocks, asec & _U64, msec & _U64, csec & _U64,
        ansec, mnsec, cnsec, mode, nlink, uid, gid, rdev, block_size, 0,
        handle, flags,
    )  # fmt: skip


def attr(unique: int, attributes: Attributes, attr_valid: Valid) -> bytes:
    """What stat(2) shows."""
    number, mode, nlink, uid, gid, rdev, size, blocks, block_size, atime, mtime, ctime = attributes
    asec, ansec = divmod(atime, _SECOND)
    msec, mnsec = divmod(mtime, _SECOND)
    csec, cnsec = divmod(ctime, _SECOND)
    return _ATTR.pack(
        120, 0, unique, *attr_valid,
        number, size, blocks, asec & _U64, msec & _U64, csec & _U64,
        ansec, mnsec, cnsec, mode, nlink, uid, gid, rdev, block_size, 0,
    )  # fmt: skip


def statx(unique: int, attributes: Attributes, attr_valid: Valid, birth_ns: int | None) -> bytes:
    """What statx(2) shows: birth time, too, where the store knows it."""
    number, mode, nlink, uid, gid, rdev, size, blocks, block_size, atime, mtime, ctime = attributes
    mask = _STATX_BASIC | (_STATX_BTIME if birth_ns is not None else 0)
    return _STATX.pack(
        _STATX.size, 0, unique, *attr_valid,
        mask, block_size, 0, nlink, uid, gid, mode, number, size, blocks, 0,
        *divmod(atime, _SECOND), *divmod(birth_ns or 0, _SECOND),
        *divmod(ctime, _SECOND), *divmod(mtime, _SECOND),
        os.major(rdev), os.minor(rdev), 0, 0,
    )  # fmt: skip


def opened(unique: int, handle: int, flags: int) -> bytes:
    """A handle."""
    return _OPEN.pack(32, 0, unique, handle, flags)


def written(unique: int, count: int) -> bytes:
    """How much a write took, a copy copied, or an attribute has."""
    return _WRITTEN.pack(24, 0, unique, count)


def offset(unique: int, value: int) -> bytes:
    """What lseek(2) found."""
    return _NUMBER.pack(24, 0, unique, value)


def statfs(
    unique: int,
    blocks: int,
    free: int,
    available: int,
    files: int,
    files_free: int,
    block_size: int,
    fragment_size: int,
    name_max: int,
) -> bytes:
    """What statfs(2) shows."""
    return _STATFS.pack(
        96, 0, unique, blocks, free, available, files, files_free,
        block_size, name_max, fragment_size, 0,
    )  # fmt: skip


def dirent(name: bytes, number: int, following: int, kind: int) -> bytes:
    """One name of a listing; `kind` is st_mode's type."""
    packed = _DIRENT.pack(number, following, len(name), kind >> 12) + name
    return packed + bytes(-len(packed) % 8)


def direntplus(
    name: bytes,
    attributes: Attributes,
    following: int,
    entry_valid: Valid,
    attr_valid: Valid,
    *,
    counted: bool,
) -> bytes:
    """One name of a listing with all that a lookup says; not `counted`: only the name."""
    number, mode, nlink, uid, gid, rdev, size, blocks, block_size, atime, mtime, ctime = attributes
    asec, ansec = divmod(atime, _SECOND)
    msec, mnsec = divmod(mtime, _SECOND)
    csec, cnsec = divmod(ctime, _SECOND)
    seconds, nanoseconds = entry_valid
    attr_seconds, attr_nanoseconds = attr_valid
    packed = _DIRENTPLUS.pack(
        number if counted else 0, 0, seconds, attr_seconds, nanoseconds, attr_nanoseconds,
        number, size, blocks, asec & _U64, msec & _U64, csec & _U64,
        ansec, mnsec, cnsec, mode, nlink, uid, gid, rdev, block_size, 0,
        number, following, len(name), mode >> 12,
    ) + name  # fmt: skip
    return packed + bytes(-len(packed) % 8)


def inval_inode(number: int, start: int = 0, length: int = 0) -> bytes:
    """Forget the attributes of an inode, and the pages of a stretch; without one, every page."""
    return _INVAL_INODE.pack(40, NOTIFY_INVAL_INODE, 0, number, start, length)


def inval_attributes(number: int) -> bytes:
    """Forget the attributes of an inode; takes no lock of the kernel's."""
    return _INVAL_INODE.pack(40, NOTIFY_INVAL_INODE, 0, number, -1, 0)


def inval_entry(parent: int, name: bytes) -> bytes:
    """Forget a name."""
    length = _INVAL_ENTRY.size + len(name) + 1
    return _INVAL_ENTRY.pack(length, NOTIFY_INVAL_ENTRY, 0, parent, len(name), 0) + name + b"\0"


def store(number: int, start: int, length: int) -> bytes:
    """Before `length` bytes of an inode's content that the kernel is to keep."""
    return _STORE.pack(_STORE.size + length, NOTIFY_STORE, 0, number, start, length)
