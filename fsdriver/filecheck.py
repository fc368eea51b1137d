"""Everything that one backing file can be checked for by itself: a pure function of the file.

Header, key, commitment, seal, binding, length, extents, every chunk, the chunk set, attributes.
What only the folder, the host or the content database knows is scrub's to compare. Takes a record
and gives one, so that an existing scheduler can spread the files of a store over many workers.
"""

import errno
from collections.abc import Callable
from typing import Final

from fsdriver.errors import ChunkInvalid, FileError, FormatUnsupported, HeaderInvalid, NameInvalid
from fsdriver.filereader import ChunkRun, FileReader
from fsdriver.findings import (
    RESTORE,
    SALVAGE,
    FileReport,
    FileTask,
    Finding,
    Ranges,
    Verdict,
    merged,
    shown,
)
from fsdriver.format.extents import ExtentMap
from fsdriver.format.geometry import HEADER_SIZE, RECORD_OVERHEAD
from fsdriver.format.header import SealedState
from fsdriver.format.names import XATTR_PREFIX
from fsdriver.offline import OfflineStore
from keyhierarchy import errors as keys

Spend = Callable[[int], None]
"""Told of bytes that were read, as they are: to count them, and to wait if that was too fast."""

Sink = Callable[[int, memoryview], None]
"""Takes plaintext that authenticated: its offset in the file, and the bytes for as long as it runs.
What it was given is not the file's content if the report then has findings."""

_SCANNED: Final = 1 << 20
"""Chunks of a file up to which is looked for where a copied record comes from."""
_TRIALS: Final = 32
"""Bad chunks for which is looked where in the file they come from."""
_FORGED_KEYS: Final = (keys.WrappedKeyInvalid, keys.SiteUnknown)


def check_file(
    store: OfflineStore, task: FileTask, spend: Spend | None = None, sink: Sink | None = None
) -> FileReport:
    """One look at one file. Raises nothing that the file, the disk or a key can cause."""
    look = _Look(store, task, spend or (lambda _bytes: None), sink)
    try:
        descriptor = store.open_file(task.place)
    except FileNotFoundError:
        look.report.gone = True
        return look.report
    except OSError as error:
        look.failed(error)
        return look.report
    try:
        look.at(descriptor)
    except OSError as error:
        look.failed(error)
    except keys.KeyHierarchyError as error:
        look.locked(error)
    finally:
        store.backing.close(descriptor)
    return look.report


def kind_of_key(error: keys.KeyHierarchyError) -> str:
    """A finding's kind: whether to wait for a root key, to look for it, or to ask its owner."""
    if isinstance(error, keys.RootKeyRefused | keys.PolicyPurged):
        return "key-refused"
    return "key-missing" if isinstance(error, keys.RootKeyMissing) else "key"


class _Look:
    """One file, from its first byte to its last; what is wrong goes into the report."""

    def __init__(
        self, store: OfflineStore, task: FileTask, spend: Spend, sink: Sink | None
    ) -> None:
        self._store = store
        self._sink = sink
        self._spend = spend
        self._task = task
        self.report = FileReport(place=task.place, path=task.path, findings=[])

    def failed(self, error: OSError) -> None:
        """The system does not give the bytes."""
        if error.errno in (errno.EACCES, errno.EPERM):
            self._say("unverified", "permission", f"cannot be read: {error.strerror}", "run as the "
                      "store's owner")  # fmt: skip
        elif error.errno in (errno.ELOOP, errno.ENXIO):
            self._say("forged", "planted", "something else lies where a file was", RESTORE)
        else:
            self._say("damaged", "unreadable", f"cannot be read: {error.strerror}", SALVAGE)

    def locked(self, error: keys.KeyHierarchyError) -> None:
        """There is no key to check it with."""
        self._say("unverified", kind_of_key(error), str(error), "see `ckfs-keys status`")

    def at(self, descriptor: int) -> None:
        """Check an open file; raises OSError."""
        backing = self._store.backing
        before = backing.stat_open(descriptor)
        raw = backing.read(descriptor, HEADER_SIZE, 0)
        self.report.inode, self.report.length = before.st_ino, before.st_size
        self.report.changed_ns = before.st_ctime_ns
        self.report.blank = not any(raw)
        self.report.read_bytes = len(raw)
        self._spend(len(raw))
        self._check(descriptor, raw, before.st_size)
        after = backing.stat_open(descriptor)
        self.report.changed = raw != backing.read(descriptor, HEADER_SIZE, 0) or (
            before.st_size,
            before.st_mtime_ns,
        ) != (after.st_size, after.st_mtime_ns)

    def _say(
        self, verdict: Verdict, kind: str, message: str, remedy: str, chunks: Ranges | None = None
    ) -> None:
        chunk_size, size = self._store.geometry.chunk_size, self.report.size
        self.report.findings.append(
            Finding(
                verdict=verdict,
                kind=kind,
                place=self._task.place,
                path=self._task.path,
                message=message,
                remedy=remedy,
                chunks=chunks or [],
                ranges=[
                    (first * chunk_size, min(end * chunk_size, size)) for first, end in chunks or []
                ],
            )
        )

    def _check(self, descriptor: int, raw: bytes, length: int) -> None:
        try:
            reader = FileReader(self._store.backing, descriptor, raw, self._store.sites)
            state = reader.unseal()
        except FormatUnsupported as error:
            self._say("unverified", "newer-format", str(error), "use a newer ckfs")
        except (FileError, *_FORGED_KEYS) as error:
            self._say("damaged", "header", str(error), SALVAGE)
        except keys.KeyHierarchyError as error:
            self.locked(error)
        else:
            report = self.report
            report.file_id, report.site_id = reader.clear.file_id.hex(), reader.clear.site_id.hex()
            report.generation, report.size = state.generation, state.size
            report.session = state.session.hex()
            report.bindings, report.unbound = list(state.bindings), state.unbound
            report.dirty = state.dirty
            report.unsealed = state.dirty or length != reader.geometry.ciphertext_size(state.size)
            self._place(reader, state)
            self._length(reader, state, length)
            self._attributes(descriptor, reader)
            self._content(reader, state)

    def _place(self, reader: FileReader, state: SealedState) -> None:
        task, clear = self._task, reader.clear
        if task.site_id and clear.site_id != task.site_id:
            self._say(
                "forged",
                "moved",
                f"the file belongs to site {clear.site_id.hex()}, its folder to "
                f"{task.site_id.hex()}: it was moved between sites in the store",
                RESTORE,
            )
        elif task.binding is not None and not (state.unbound or task.binding in state.bindings):
            self._say(
                "forged",
                "moved",
                "the file was sealed under another name: it was moved, swapped or copied in the "
                "store",
                RESTORE,
            )
        if clear.chunk_size != self._store.geometry.chunk_size:
            self._say(
                "forged",
                "foreign-store",
                f"the file has chunks of {clear.chunk_size} bytes, its store of "
                f"{self._store.geometry.chunk_size}: it comes from another store",
                RESTORE,
            )

    def _length(self, reader: FileReader, state: SealedState, length: int) -> None:
        expected = reader.geometry.ciphertext_size(state.size)
        if state.dirty:
            self._say(
                "forged",
                "unsealed",
                "the file was left unsealed by a driver that this host does not know to have "
                "stopped: an old header was put back in the store, or the store was last written "
                "on another host",
                "mount it on that host, or accept such files with -o recover; else " + RESTORE,
            )
        elif length > expected:
            self._say(
                "damaged",
                "extended",
                f"the backing file has {length} bytes and was sealed with {expected}: what lies "
                "behind its end is not the file's",
                SALVAGE,
            )
        elif length < expected and reader.geometry.chunk_count(state.size) == 0:
            self._say("damaged", "cut", "the backing file was cut", RESTORE)

    def _attributes(self, descriptor: int, reader: FileReader) -> None:
        store = self._store
        if any(one.kind == "moved" for one in self.report.findings):
            return  # they are those of the file that was here
        for problem in bad_attributes(
            store, descriptor, reader.clear.site_id, reader.clear.file_id
        ):
            self._say("damaged", "attribute", problem, RESTORE)

    def _content(self, reader: FileReader, state: SealedState) -> None:
        try:
            extents = reader.extents(state)
        except (HeaderInvalid, ChunkInvalid) as error:
            self._say("damaged", "extent-map", str(error), SALVAGE)
            return
        if not self._task.content:
            return
        bad: list[ChunkRun] = []
        digest = 0
        chunk_set = reader.chunk_set()
        for run in reader.read(state.size, extents):
            if run.plaintext is None:
                bad.append(run)
                continue
            digest ^= chunk_set.digest(run.first, run.nonces)
            self.report.verified_bytes += len(run.plaintext)
            if self._sink is not None:
                self._sink(run.first * reader.geometry.chunk_size, run.plaintext)
            read = len(run.plaintext) + RECORD_OVERHEAD * (run.end - run.first)
            self.report.read_bytes += read
            self._spend(read)
        if bad:
            self._tell_bad(reader, state, bad, extents)
        elif digest != state.chunk_set and not state.dirty:
            self._say(
                "forged",
                "chunk-set",
                "every chunk authenticates, but they are not the set that was sealed: one was put "
                "back to an older version in the store",
                RESTORE,
            )

    def _tell_bad(
        self, reader: FileReader, state: SealedState, bad: list[ChunkRun], extents: ExtentMap
    ) -> None:
        missing = merged([(run.first, run.end) for run in bad if run.missing])
        if missing:
            self._say(
                "damaged",
                "cut",
                f"the backing file ends before chunks {shown(missing)}: it was cut in the store",
                SALVAGE,
                missing,
            )
        failing = [run.first for run in bad if not run.missing]
        moved = _moved(reader, failing[:_TRIALS], state, extents)
        if moved:
            first, origin = next(iter(moved.items()))
            self._say(
                "forged",
                "chunks-moved",
                f"chunks were moved or copied within the file: chunk {origin} lies in the place of "
                f"chunk {first}" + (f", and {len(moved) - 1} more" if len(moved) > 1 else ""),
                SALVAGE,
                merged([(index, index + 1) for index in moved]),
            )
        rest = merged([(index, index + 1) for index in failing if index not in moved])
        if rest:
            self._say(
                "damaged",
                "chunks",
                f"chunks {shown(rest)} do not authenticate: they were changed or zeroed in the "
                "store, or come from another file",
                SALVAGE,
                rest,
            )


def _moved(
    reader: FileReader, failing: list[int], state: SealedState, extents: ExtentMap
) -> dict[int, int]:
    """Bad chunk -> the chunk whose record lies in its place, where that is one of this file."""
    if not failing:
        return {}
    nonces = {index: reader.nonce_of(index) for index in failing}
    known = {nonce: index for index, nonce in nonces.items() if any(nonce)}
    origins: dict[int, list[int]] = {index: [] for index in failing}
    # A copy leaves its nonce in two places; a swap leaves both in places that fail.
    chunks = min(_SCANNED, reader.geometry.chunk_count(state.size))
    for first, end in extents.runs():
        for index in range(first, min(end, chunks)):
            nonce = reader.nonce_of(index)
            if nonce in known and known[nonce] != index:
                origins[known[nonce]].append(index)
    return {
        index: origin
        for index, candidates in origins.items()
        if any(nonces[index])
        for origin in [*candidates, *(one for one in failing if one != index)]
        if reader.belongs_at(index, origin)
    }


def bad_attributes(
    store: OfflineStore, descriptor: int, site_id: bytes, owner_id: bytes
) -> list[str]:
    """What is wrong with the extended attributes of an open file or folder; raises OSError."""
    try:
        listed = store.backing.xattr_names(descriptor, "")
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise
    problems = []
    cipher = None
    for attribute in listed:
        if not attribute.startswith(XATTR_PREFIX):
            continue
        cipher = cipher or store.sites(site_id).names
        try:
            name = cipher.decrypt_xattr_name(owner_id, attribute)
            stored = store.backing.get_xattr(descriptor, "", attribute)
            cipher.decrypt_xattr_value(owner_id, name, stored)
        except NameInvalid as error:
            problems.append(str(error))
        except OSError as error:
            if error.errno != errno.ENODATA:  # removed meanwhile
                problems.append(f"attribute {attribute!r} cannot be read: {error.strerror}")
    return problems
