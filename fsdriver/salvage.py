"""`ckfs salvage`: the readable chunks of one damaged backing file, and what is missing of it.

Needs no more than a header whose clear part opens. The name that the file is bound to, the set of
its chunks and the content database are not asked: what comes out is what its key wrote, not that it
is all, or the newest, or was meant to be here.
"""

import os
import stat
from collections.abc import Iterator
from typing import Final

import msgspec

from fsdriver.errors import (
    ChunkInvalid,
    CkfsError,
    HeaderInvalid,
    SizeMismatch,
    StorageFailed,
    WrongArguments,
)
from fsdriver.filereader import FileReader
from fsdriver.findings import Ranges, merged
from fsdriver.format.extents import ExtentMap
from fsdriver.format.geometry import HEADER_SIZE, Geometry
from fsdriver.format.header import SealedState
from fsdriver.offline import OfflineStore
from fsdriver.storewalk import open_folder_record
from keyhierarchy.errors import KeyHierarchyError

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Salvaged(msgspec.Struct, kw_only=True):
    """What came out; `--json` shows it as it is."""

    format: int = 1
    file: str
    out: str
    file_id: str
    site_id: str
    generation: int = 0
    """0 when the header's sealed part did not open."""
    size: int = 0
    size_from: str = "header"
    """header, or length: of the backing file, so that the true one may differ."""
    recovered_bytes: int = 0
    missing: Ranges = []
    """Plaintext bytes [start, end) that are zeros in the output and were not in the file."""
    in_doubt: bool = False
    """Whether nothing is known to be missing, and yet this may not be what was written last."""
    notes: list[str] = []

    @property
    def whole(self) -> bool:
        """Whether all that the header says is there."""
        return not self.missing and not self.in_doubt

    def doubt(self, note: str) -> None:
        """Say why."""
        self.in_doubt = True
        self.notes.append(note)


def find(store: OfflineStore, wanted: str) -> str:
    """Where a file lies, as a path to open: a plaintext path, a place in the store, or any file.

    Raises WrongArguments.
    """
    place = _place_of(store, wanted)
    inside = os.path.join(store.path, wanted.lstrip("/"))
    for candidate in (place, inside, wanted):
        if candidate and os.path.isfile(candidate) and not os.path.islink(candidate):
            return candidate
    raise WrongArguments(
        f"{wanted} is no file of the store: give its path in the mount, or where its backing file "
        "lies; `ckfs scrub` names both"
    )


def _place_of(store: OfflineStore, wanted: str) -> str:
    """The backing file of a plaintext path, "" if there is no way to it."""
    names = [os.fsencode(one) for one in wanted.split("/") if one]
    parts: list[str] = []
    descriptor = store.backing.duplicate(store.root)
    try:
        for name in names:
            if parts:
                below = store.backing.open_directory(descriptor, parts[-1])
                store.backing.close(descriptor)
                descriptor = below
            folder, _moved = open_folder_record(
                store.backing,
                descriptor,
                store.sites,
                plaintext_names=store.plaintext_names,
                above=None,
                binding=None,
            )
            parts.append(folder.backing_name(name).text)
    except (OSError, CkfsError, KeyHierarchyError):
        return ""
    finally:
        store.backing.close(descriptor)
    return os.path.join(store.path, *parts)


def salvage(store: OfflineStore, source: str, out: str) -> Salvaged:
    """Write what is readable of the backing file `source` to the new file `out`, mode 0600.

    Raises StorageFailed, HeaderInvalid, FormatUnsupported, or an error of the key hierarchy.
    """
    _refuse_in_store(store, out)
    descriptor = _open_source(source)
    try:
        raw = store.backing.read(descriptor, HEADER_SIZE, 0)
        reader = FileReader(store.backing, descriptor, raw, store.sites)
        try:
            target = os.open(out, _FLAGS, 0o600)
        except OSError as error:
            raise WrongArguments(
                f"{out} cannot be made: {error.strerror}; --out names a file that is not there yet"
            ) from None
        try:
            result = _Salvage(store, reader, descriptor, target).run(source, out)
            if store.is_mounted() or store.was_killed():
                result.notes.append(
                    "what the mount, or a driver that was stopped, had not put in place is not in "
                    "this: unmount the store, or mount it once, and salvage again"
                )
            os.fsync(target)
        except BaseException:
            os.unlink(out)
            raise
        finally:
            os.close(target)
    except OSError as error:
        raise StorageFailed(f"{source} cannot be salvaged: {error.strerror}") from None
    finally:
        store.backing.close(descriptor)
    return result


def _refuse_in_store(store: OfflineStore, out: str) -> None:
    place = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(out))), "")
    if place.startswith(os.path.join(os.path.realpath(store.path), "")):
        raise WrongArguments(
            f"{out} lies in the store, where no plaintext may go; name a place outside"
        )


def _open_source(source: str) -> int:
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise WrongArguments(f"{source} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise WrongArguments(f"{source} is no regular file")
    return descriptor


class _Salvage:
    """One file into another."""

    def __init__(
        self, store: OfflineStore, reader: FileReader, descriptor: int, target: int
    ) -> None:
        self._reader = reader
        self._target = target
        self._geometry: Geometry = reader.geometry
        self._length = store.backing.stat_open(descriptor).st_size
        self._readable: Ranges = []
        """Chunks that were written, [first, end)."""
        self._short: Ranges = []
        """Plaintext bytes behind the sealed end of a chunk, whose longer record is not there."""

    def run(self, source: str, out: str) -> Salvaged:
        """Raises OSError."""
        clear = self._reader.clear
        result = Salvaged(
            file=source, out=out, file_id=clear.file_id.hex(), site_id=clear.site_id.hex()
        )
        try:
            state = self._reader.unseal()
        except HeaderInvalid:
            result.size_from = "length"
            result.doubt(
                "the sealed part of the header does not open: the size is what the length of the "
                "backing file gives, and what is missing may have been a hole"
            )
            result.size, holes = self._without_header()
        else:
            result.size, holes = self._with_header(state, result)
        os.ftruncate(self._target, result.size)
        here = merged(self._readable + holes)
        chunks = self._geometry.chunk_count(result.size)
        chunk_size = self._geometry.chunk_size
        gaps = [
            (first * chunk_size, min(end * chunk_size, result.size))
            for first, end in _gaps(here, chunks)
        ]
        result.missing = merged(gaps + self._short)
        result.recovered_bytes = sum(
            min(end * chunk_size, result.size) - first * chunk_size
            for first, end in merged(self._readable)
        ) - sum(end - start for start, end in self._short)
        return result

    def _with_header(self, state: SealedState, result: Salvaged) -> tuple[int, Ranges]:
        """Returns the size, and the chunks that are holes."""
        result.generation = state.generation
        chunks = self._geometry.chunk_count(state.size)
        try:
            extents = self._reader.extents(state)
        except (HeaderInvalid, ChunkInvalid) as error:
            result.doubt(f"which chunks are holes is not known: {error}")
            extents = ExtentMap.full(chunks)
        digest = self._take(state.size, extents)
        holes = list(extents.holes(chunks))
        complete = merged(self._readable) == list(extents.runs())
        if complete and not state.dirty and digest != state.chunk_set:
            result.doubt(
                "every chunk authenticates, but they are not the set that was sealed: one of them "
                "is older"
            )
        size = state.size
        if self._length > self._geometry.ciphertext_size(state.size) or state.dirty:
            size = max(size, self._behind(state.size))
            result.doubt(
                "the file was being written when it was left, or was extended: what authenticates "
                "behind its sealed size was taken, too"
            )
        return size, holes

    def _behind(self, sealed_size: int) -> int:
        """Take chunks behind the sealed size; returns where the last one ends."""
        size = self._size_by_length()
        first = max(0, self._geometry.chunk_count(sealed_size) - 1)
        known = merged(self._readable)
        if known and known[-1][1] > first:
            first = known[-1][1]
        chunks = self._geometry.chunk_count(size)
        if first >= chunks:
            return sealed_size
        self._take(size, ExtentMap([first, chunks]))
        last = max((end for _first, end in self._readable), default=0)
        if last <= first:
            return sealed_size
        border = first * self._geometry.chunk_size
        if sealed_size < border:
            self._short.append((sealed_size, border))
        return min(size, last * self._geometry.chunk_size)

    def _without_header(self) -> tuple[int, Ranges]:
        size = self._size_by_length()
        chunks = self._geometry.chunk_count(size)
        self._take(size, ExtentMap.full(chunks))
        pages = [
            (index, index + 1)
            for first, end in _gaps(merged(self._readable), chunks)
            for index in range(first, end)
            if self._reader.is_page(index)
        ]
        return size, pages

    def _size_by_length(self) -> int:
        try:
            return self._geometry.plaintext_size(self._length)
        except SizeMismatch:
            # The last record was cut inside its overhead: what is before it counts.
            whole = max(0, self._length - HEADER_SIZE) // self._geometry.stride
            return whole * self._geometry.chunk_size

    def _take(self, size: int, extents: ExtentMap) -> int:
        """Write the chunks that authenticate; returns the digest of their set."""
        digest = 0
        chunk_set = self._reader.chunk_set()
        for run in self._reader.read(size, extents):
            if run.plaintext is not None:
                digest ^= chunk_set.digest(run.first, run.nonces)
                self._readable.append((run.first, run.end))
                self._write(run.plaintext, run.first * self._geometry.chunk_size)
        return digest

    def _write(self, plaintext: memoryview, offset: int) -> None:
        while plaintext:
            written = os.pwrite(self._target, plaintext, offset)
            plaintext, offset = plaintext[written:], offset + written


def _gaps(ranges: Ranges, chunks: int) -> Iterator[tuple[int, int]]:
    """What of [0, chunks) lies in none of the sorted ranges."""
    at = 0
    for first, end in ranges:
        if first > at:
            yield at, min(first, chunks)
        at = max(at, end)
    if at < chunks:
        yield at, chunks
