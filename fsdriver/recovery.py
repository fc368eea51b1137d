"""What a stopped driver left of one file, brought back into step (FORMAT.md section 12).

The journal has been replayed before. What is left are records that were written in place behind
what any header names, or beside a header that reached the disk before them. Each record tells by
its tag whether it is whole; one that is not was never on the disk for good, since what had been
committed was only ever replaced through the journal. So it is left out, and the file is sealed as
what is there.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from fsdriver import extentpages
from fsdriver.errors import ChunkInvalid, SizeMismatch
from fsdriver.format.extents import ExtentMap
from fsdriver.format.geometry import HEADER_SIZE, RECORD_OVERHEAD
from fsdriver.sealedfile import SealedFile


class Outcome(NamedTuple):
    """What became of a file."""

    size: int
    lost: int
    """Chunks that the header named and that are not whole."""
    changed: bool
    """Whether it was not as it had been sealed."""


def recover(file: SealedFile) -> Outcome:
    """Take what lies there as the content, sealed if the file is writable.

    Reads the whole file. Raises OSError or a Damaged error; the file is then as it was.
    """
    geometry = file.geometry
    file.prepare_content()
    file.settle()
    named = _named(file)
    sealed_chunks = geometry.chunk_count(file.state.size)
    size = _size_now(file, named)
    chunks = geometry.chunk_count(size)
    present = ExtentMap()
    digest = 0
    for index in _written(file, chunks):
        if index not in present and (file.state.dirty or index in named):
            nonce = _authentic(file, index, geometry.chunk_length(index, size))
            if nonce is not None:
                present.add(index, index + 1)
                digest ^= file.chunk_set.digest(index, nonce)  # of nothing for a delta's own
    if _was_committed(file):
        # What a stop cannot have done is damage, and stays so: a read will say it.
        digest = file.state.chunk_set
        for index in _outside(present, named, chunks):
            digest ^= file.chunk_set.digest(index, file.nonce_of(index))
        for run in named.runs():
            present.add(*run)
    lost = sum(
        index not in present
        for first, end in named.runs()
        for index in range(first, min(end, chunks))
    )
    kept = chunks
    while kept and kept - 1 not in present and (kept - 1 >= sealed_chunks or kept - 1 in named):
        kept -= 1
    if kept < chunks:
        size = kept * geometry.chunk_size
    before = file.state
    whole = geometry.ciphertext_size(size) == file.length
    if whole and not before.dirty and (size, digest) == (before.size, before.chunk_set):
        extentpages.load(file)
        file.provisional = False
        file.session.generations.note_generation(file.file_id, before.generation)
        return Outcome(size, 0, changed=False)
    state = replace(before, size=size, chunk_set=digest, content_digest=None, dirty=False)
    if file.writable:
        extents, extras = extentpages.fit(file, state, present)
        file.put_header(state, extras, geometry.ciphertext_size(size))
        file.extents = extents
    else:
        file.state = state
        if file.overlay is not None:
            file.overlay.cut(size)
        file.extents = None if present.is_dense(kept) else present
    file.provisional = False
    return Outcome(size, lost, changed=True)


def _outside(present: ExtentMap, named: ExtentMap, chunks: int) -> Iterator[int]:
    """The chunks that are there and that the header does not name."""
    for first, end, is_named in named.segments(0, chunks):
        for index in range(first, end) if not is_named else ():
            if index in present:
                yield index


def _was_committed(file: SealedFile) -> bool:
    """Whether all that the header names was on the disk before the first write after it."""
    state = file.state
    committed = file.session.generations.committed_generation(file.file_id)
    return state.dirty and state.generation - 1 <= committed


def _named(file: SealedFile) -> ExtentMap:
    """The chunks that the header says are there. Raises HeaderInvalid or ChunkInvalid.

    A map that does not open is damage: it went through the journal with the header that names it.
    """
    extentpages.load(file)
    if file.extents is not None:
        return file.extents
    return ExtentMap.full(file.geometry.chunk_count(file.state.size))


def _size_now(file: SealedFile, named: ExtentMap) -> int:
    """A file grows in place only by whole new chunks behind its last, which is full or a hole."""
    geometry, sealed = file.geometry, file.state.size
    last = sealed // geometry.chunk_size
    if not file.state.dirty or (sealed % geometry.chunk_size and last in named):
        return sealed
    length = file.length
    try:
        size = geometry.plaintext_size(length)
    except SizeMismatch:
        # The last record was cut inside its overhead, so nobody was told that it is there.
        size = max(0, length - HEADER_SIZE) // geometry.stride * geometry.chunk_size
    return max(size, sealed)


def _written(file: SealedFile, chunks: int) -> Iterator[int]:
    """Chunk indexes below `chunks` that the store's filesystem does not hold as a hole."""
    geometry = file.geometry
    following = 0
    journaled = file.journaled
    if file.overlay is not None:  # in a read-only mount
        yield from sorted(index for index in file.overlay.dirty if index < chunks)
    if journaled is not None:  # only where nothing can be put in place: in a read-only mount
        for offset in sorted({offset for part in journaled.parts for offset in part.images}):
            if offset < geometry.record_offset(chunks):
                yield (offset - HEADER_SIZE) // geometry.stride
    for start, end in file.backing.data_runs(file.descriptor, HEADER_SIZE):
        first = max(following, (start - HEADER_SIZE) // geometry.stride)
        following = max(first, min(chunks, -(-(end - HEADER_SIZE) // geometry.stride)))
        yield from range(first, following)


def _authentic(file: SealedFile, chunk_index: int, length: int) -> bytes | None:
    """The nonce of a whole record; None for one that is torn, missing, or a page of a map."""
    geometry = file.geometry
    if file.overlay is not None and chunk_index in file.overlay.dirty:
        try:
            return file.overlay.read(chunk_index, memoryview(bytearray(geometry.chunk_size))) or b""
        except ChunkInvalid:
            return None
    record = memoryview(bytearray(length + RECORD_OVERHEAD))
    if file.read_record(chunk_index, record) < len(record):
        return None
    try:
        return file.cipher.decrypt_run(
            chunk_index, record, geometry.stride, memoryview(bytearray(length))
        )
    except ChunkInvalid:
        return None
