"""Where a sparse file's extent map is kept: inside the header, or as pages (FORMAT.md section 6).

A map too large for the header implies many holes; its pages lie in the slots of such holes,
encrypted like chunks but of another kind, and the header names each with its nonce.
"""

from typing import TYPE_CHECKING

from fsdriver.errors import ChunkInvalid, HeaderInvalid
from fsdriver.format import header
from fsdriver.format.chunk import KIND_EXTENT_MAP
from fsdriver.format.extents import ExtentMap
from fsdriver.format.geometry import NONCE_SIZE
from fsdriver.format.header import ExtentPage

if TYPE_CHECKING:
    from fsdriver.sealedfile import SealedFile


def load(file: "SealedFile") -> None:
    """Set `file.extents` from the sealed state; raises HeaderInvalid or ChunkInvalid."""
    state = file.state
    packed = state.extents
    if state.extent_pages:
        file.prepare_content()
        packed = b"".join(_read(file, page) for page in state.extent_pages)
    if packed is not None:
        file.extents = ExtentMap.parse(packed, file.geometry.chunk_count(state.size))


def store(file: "SealedFile") -> None:
    """Bring `file.extents` into the state that is about to be sealed.

    Pages go where no page of the map sealed before lies, so that the old header stays true until
    the new one replaces it.
    """
    state, geometry = file.state, file.geometry
    chunks = geometry.chunk_count(state.size)
    if file.extents is not None and file.extents.is_dense(chunks):
        file.extents = None
    if file.extents is None:
        state.extents, state.extent_pages = None, ()
        return
    while len(packed := file.extents.pack()) > header.MAP_PAGES * geometry.chunk_size:
        _fill_smallest_holes(file, file.extents, chunks)
    if len(packed) <= header.MAP_SIZE:
        state.extents, state.extent_pages = packed, ()
        return
    taken = {page.chunk_index for page in state.extent_pages}
    whole_chunks = state.size // geometry.chunk_size
    slots = (
        slot
        for first, end in file.extents.holes(chunks)
        for slot in range(first, min(end, whole_chunks, first + 2 * header.MAP_PAGES))
        if slot not in taken
    )
    pieces = [
        packed[at : at + geometry.chunk_size] for at in range(0, len(packed), geometry.chunk_size)
    ]
    pages = tuple(_write(file, next(slots), piece) for piece in pieces)
    state.extents, state.extent_pages = None, pages


def is_page(file: "SealedFile", chunk_index: int) -> bool:
    """Whether a slot holds a page of some extent map of this file, which makes it a hole."""
    try:
        _decrypt(file, chunk_index)
    except ChunkInvalid:
        return False
    return True


def _decrypt(file: "SealedFile", chunk_index: int) -> tuple[bytes, bytes]:
    geometry = file.geometry
    record = file.backing.read(
        file.descriptor, geometry.stride, geometry.record_offset(chunk_index)
    )
    if len(record) != geometry.stride:
        raise ChunkInvalid(chunk_index, "a page of the extent map was cut off in the store")
    plaintext = bytearray(geometry.chunk_size)
    nonce = file.cipher.decrypt_run(
        chunk_index,
        memoryview(record),
        geometry.stride,
        memoryview(plaintext),
        kind=KIND_EXTENT_MAP,
    )
    return bytes(plaintext), nonce


def _read(file: "SealedFile", page: ExtentPage) -> bytes:
    plaintext, nonce = _decrypt(file, page.chunk_index)
    if nonce != page.nonce or page.length > len(plaintext):
        raise HeaderInvalid("a page of the extent map is not the one that was sealed")
    return plaintext[: page.length]


def _write(file: "SealedFile", chunk_index: int, piece: bytes) -> ExtentPage:
    geometry = file.geometry
    record = bytearray(geometry.stride)
    padded = piece.ljust(geometry.chunk_size, b"\0")
    nonce = file.cipher.encrypt_run(
        chunk_index, [memoryview(padded)], memoryview(record), kind=KIND_EXTENT_MAP
    )
    file.backing.write(file.descriptor, [record], geometry.record_offset(chunk_index))
    return ExtentPage(chunk_index, nonce, len(piece))


def _fill_smallest_holes(file: "SealedFile", extents: ExtentMap, chunks: int) -> None:
    """Turn the smallest eighth of the holes into encrypted zeros: more room, fewer runs."""
    geometry = file.geometry
    holes = sorted(extents.holes(chunks), key=lambda hole: hole[1] - hole[0])
    for first, end in holes[: max(1, len(holes) // 8)]:
        for index in range(first, end):
            zeros = memoryview(bytes(geometry.chunk_length(index, file.state.size)))
            record = memoryview(bytearray(len(zeros) + NONCE_SIZE + 16))
            nonce = file.cipher.encrypt_run(index, [zeros], record)
            file.backing.write(file.descriptor, [record], geometry.record_offset(index))
            file.state.chunk_set ^= file.chunk_set.digest(index, nonce)
        extents.add(first, end)
