"""The content database as a file: its tables, making it, opening it, and what is refused.

Host-local SQLite in the host's folder for the store. The folder is private to the driver's account,
so what is checked here finds accidents (another store's file, a newer ckfs, a bad disk), and keeps
anybody from being led elsewhere by a symlink. Plain SQL: PostgreSQL can take SQLite's place.
"""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

from fsdriver.errors import NotPermitted, StorageFailed, StoreDamaged, StoreError

FILE_NAME: Final = "contentdb.sqlite"
FORMAT: Final = 1
ID_SIZE: Final = 16
GENERATION_MAX: Final = (1 << 63) - 1
"""What SQL's integers hold; no file is sealed so often."""

_APPLICATION: Final = int.from_bytes(b"ckfs")
_PRIVATE: Final = 0o600
_BUSY_SECONDS: Final = 5.0
_BESIDE: Final = ("-wal", "-shm")

TABLES: Final = {
    "meta": "CREATE TABLE meta (format INTEGER NOT NULL, store_id BLOB NOT NULL, "
    "complete INTEGER NOT NULL, unclean INTEGER NOT NULL, checkpoint INTEGER NOT NULL, "
    "committed INTEGER NOT NULL) STRICT",
    "policies": "CREATE TABLE policies (policy_id BLOB NOT NULL PRIMARY KEY, "
    "tik_generation INTEGER NOT NULL, fingerprint BLOB NOT NULL, "
    "sealed_generation INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "folders": "CREATE TABLE folders (folder BLOB NOT NULL PRIMARY KEY, "
    "reconciled INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "entries": "CREATE TABLE entries (folder BLOB NOT NULL, text BLOB NOT NULL, "
    "object BLOB NOT NULL, PRIMARY KEY (folder, text)) STRICT, WITHOUT ROWID",
    # `names` counts the entries of an object: at none, what is known of it goes.
    "objects": "CREATE TABLE objects (object BLOB NOT NULL PRIMARY KEY, "
    "generation INTEGER NOT NULL, names INTEGER NOT NULL) STRICT, WITHOUT ROWID",
}

_INSERT: Final = {
    "policies": "INSERT INTO policies VALUES (?, ?, ?, ?)",
    "folders": "INSERT INTO folders VALUES (?, ?) ON CONFLICT (folder) DO NOTHING",
    "entries": "INSERT INTO entries VALUES (?, ?, ?) ON CONFLICT (folder, text) DO NOTHING",
    "objects": "INSERT INTO objects VALUES (?, ?, 0) ON CONFLICT (object) DO UPDATE "
    "SET generation = excluded.generation WHERE generation < excluded.generation",
}
_COUNT_NAMES: Final = (
    "INSERT INTO objects SELECT object, 0, count(*) FROM entries WHERE length(object) > 0 "
    "GROUP BY object ON CONFLICT (object) DO UPDATE SET names = excluded.names"
)


class KnownPolicy(NamedTuple):
    """What the anchor pins of one policy (HIERARCHY.md section 5)."""

    policy_id: bytes  # 16
    tik_generation: int
    fingerprint: bytes  # 32
    sealed_generation: int


class Meta(NamedTuple):
    """What a database says besides its rows."""

    store_id: bytes  # 16
    complete: bool
    """Whether an entry that is not known was never made by a driver of this host."""
    unclean: int = 0
    """Unclean stops so far."""
    checkpoint: int = 0
    committed: int = 0
    """Seconds since 1970 of the last commit."""


Row = tuple[str, tuple[bytes | int, ...]]
"""A table of TABLES and the values of a row; of `objects` without the count of names."""


@contextmanager
def told(path: str, doing: str) -> Iterator[None]:
    """Turn what SQLite says into StoreDamaged, or StorageFailed for a bad or full disk."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # the caller's fault, not the file's
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _NOT_DAMAGE:
            raise StorageFailed(
                f"cannot {doing} the content database {path}: {error}; make room on the disk below "
                "it, or mend it, and try again"
            ) from error
        raise damaged(path, str(error)) from error
    except UnicodeDecodeError as error:  # of an error's own text, which quotes the file
        raise damaged(path, "it is malformed") from error


_NOT_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
    }
)


def damaged(path: str, reason: str) -> StoreDamaged:
    """What to do is the same for all that is wrong with a database."""
    return StoreDamaged(
        f"the content database {path} cannot be used: {reason}; put it back from a backup of this "
        "host, or take another host's with `ckfs contentdb import`, or trust the store as it is "
        "now with `ckfs contentdb rebuild`"
    )


def require_private(path: str) -> bool:
    """Whether the database is there. Raises for a symlink, or a file that others may use."""
    for place in (path, *(path + ending for ending in _BESIDE)):
        try:
            status = os.lstat(place)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StorageFailed(f"{place} cannot be looked at: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise StoreDamaged(
                f"{place} is no regular file, and no symbolic link is followed there; move it away"
            )
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise NotPermitted(
                f"{place} belongs to uid {status.st_uid} with mode "
                f"{stat.S_IMODE(status.st_mode):04o}, so that others may change what this host "
                f"knows of the store; run as its owner, or: chown {os.geteuid()} {place}; "
                f"chmod {_PRIVATE:04o} {place}"
            )
    return os.path.lexists(path)


def connect(path: str, store_id: bytes) -> sqlite3.Connection:
    """Open a database that is there. Raises StoreDamaged, StoreError or NotPermitted.

    The connection may change threads, but has one user at a time.
    """
    if not require_private(path):
        raise StoreError(f"there is no content database {path}")
    with told(path, "open"):
        connection = _connect(path)
        try:
            _check(connection, path, store_id)
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StoreError(
                    f"{path} lies on a filesystem without shared memory or locks (journal mode "
                    f"{mode}); put the state folder on a local disk"
                )
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -16384")  # KiB
            connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
        except BaseException:
            connection.close()
            raise
    return connection


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _check(connection: sqlite3.Connection, path: str, store_id: bytes) -> None:
    """The form is this version's, and the store is this one."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != _APPLICATION:
        raise damaged(path, "it was not made by ckfs")
    formats = connection.execute("SELECT format FROM meta LIMIT 2").fetchall()
    if len(formats) != 1 or type(formats[0][0]) is not int:
        raise damaged(path, "it does not say which format it has")
    if formats[0][0] > FORMAT:
        raise StoreDamaged(
            f"the content database {path} has format {formats[0][0]}, this ckfs knows {FORMAT}: "
            "use the newer ckfs that wrote it, or trust the store as it is now with "
            "`ckfs contentdb rebuild`"
        )
    tables = dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())
    if formats[0][0] != FORMAT or tables != TABLES:
        raise damaged(path, "its tables are not those of its format")
    if (known := read_meta(connection, path).store_id) != store_id:
        raise damaged(path, f"it is about store {known.hex()} and not {store_id.hex()}")


def read_meta(connection: sqlite3.Connection, path: str) -> Meta:
    """All but the rows."""
    store_id, *numbers = connection.execute(
        "SELECT store_id, complete, unclean, checkpoint, committed FROM meta"
    ).fetchone()
    if (
        type(store_id) is not bytes
        or len(store_id) != ID_SIZE
        or any(type(one) is not int or one < 0 for one in numbers)
        or numbers[0] > 1
    ):
        raise damaged(path, "its first table holds what no ckfs writes")
    return Meta(store_id, bool(numbers[0]), *numbers[1:])


def check_structure(connection: sqlite3.Connection, path: str) -> None:
    """Read every page. Raises StoreDamaged."""
    with told(path, "read"):
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise damaged(path, said)


def replace(
    path: str, meta: Meta, rows: Iterable[Row], look: Callable[[str], None] = lambda _new: None
) -> None:
    """Write a database anew, in one step whatever happens; one that is there goes.

    Nobody may have the old one open. `look` gets the path of the new one before it takes the place.
    Raises StoreError, and whatever the rows and `look` raise; then the old one stays.
    """
    require_private(path)
    new = f"{path}.new"
    try:
        with suppress(FileNotFoundError):
            os.unlink(new)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(new, flags, _PRIVATE)
        try:
            os.fchmod(descriptor, _PRIVATE)  # whatever the umask took away
            with told(new, "write"):
                _build(new, meta, rows)
            look(new)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _retire(path)
        os.rename(new, path)
        _sync_folder(path)
    except OSError as error:
        raise StorageFailed(
            f"the content database {path} cannot be written: {error.strerror}; make room, or mend "
            "the disk below it, and try again"
        ) from error
    finally:
        with suppress(OSError):
            os.unlink(new)


def _build(place: str, meta: Meta, rows: Iterable[Row]) -> None:
    with closing(_connect(place)) as connection:
        # Nobody reads this file before it is whole and synced, and half of one is thrown away.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute("BEGIN")
        for statement in TABLES.values():
            connection.execute(statement)
        for table, some in groupby(rows, itemgetter(0)):
            connection.executemany(_INSERT[table], map(itemgetter(1), some))
        connection.execute(_COUNT_NAMES)
        committed = meta.committed or int(time.time())
        connection.execute(
            "INSERT INTO meta VALUES (?, ?, ?, ?, ?, ?)",
            (FORMAT, meta.store_id, int(meta.complete), meta.unclean, meta.checkpoint, committed),
        )
        connection.execute("COMMIT")


def _retire(path: str) -> None:
    """An old database's log must not be replayed into the new one.

    It is first written back, so that a stop before the new one takes the place loses nothing.
    """
    if os.path.exists(path):
        with suppress(sqlite3.Error), closing(_connect(path)) as old:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    for ending in _BESIDE:
        with suppress(FileNotFoundError):
            os.unlink(path + ending)
    _sync_folder(path)


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
