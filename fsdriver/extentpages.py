"""Where a sparse file's extent map is kept: inside the header, or as pages (FORMAT.md section 6).

A map too large for the header implies many holes; its pages lie in the slots of such holes,
encrypted like chunks but of another kind, and the header names each with its nonce. Pages and the
header that names them go through the journal together.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from fsdriver.errors import ChunkInvalid, HeaderInvalid
from fsdriver.format import header
from fsdriver.format.chunk import KIND_CHUNK, KIND_EXTENT_MAP
from fsdriver.format.extents import ExtentMap
from fsdriver.format.geometry import RECORD_OVERHEAD
from fsdriver.format.header import ExtentPage, SealedState
from fsdriver.format.journal import Draft

if TYPE_CHECKING:
    from fsdriver.sealedfile import SealedFile

_FILLED_AT_ONCE: Final = 64


class Extra(NamedTuple):
    """A record that a map needs: one of its pages, or zeros in place of a hole too many."""

    chunk_index: int
    plaintext: bytes
    kind: bytes


def load(file: "SealedFile") -> None:
    """Set `file.extents` from the sealed state; raises HeaderInvalid or ChunkInvalid."""
    state = file.state
    packed = state.extents
    if state.extent_pages:
        file.prepare_content()
        packed = b"".join(_read(file, page) for page in state.extent_pages)
    if packed is not None:
        file.extents = ExtentMap.parse(packed, file.geometry.chunk_count(state.size))


def fit(
    file: "SealedFile", state: SealedState, extents: ExtentMap | None
) -> tuple[ExtentMap | None, list[Extra]]:
    """Bring a map into the state that is to be sealed.

    Returns the map as it then is, and the records that have to go into the journal with it.
    """
    geometry = file.geometry
    chunks = geometry.chunk_count(state.size)
    state.extents, state.extent_pages = None, ()
    if extents is None or extents.is_dense(chunks):
        return None, []
    extras: list[Extra] = []
    while len(packed := extents.pack()) > header.MAP_PAGES * geometry.chunk_size:
        extents = extents.copy()
        extras += _fill_smallest_holes(file, state.size, extents)
    if len(packed) <= header.MAP_SIZE:
        state.extents = packed
        return extents, extras
    whole_chunks = state.size // geometry.chunk_size
    slots = (
        slot
        for first, end in extents.holes(chunks)
        for slot in range(first, min(end, whole_chunks))
    )
    size = geometry.chunk_size
    extras += [
        Extra(next(slots), packed[at : at + size], KIND_EXTENT_MAP)
        for at in range(0, len(packed), size)
    ]
    return extents, extras


def images(
    file: "SealedFile", state: SealedState, extras: Sequence[Extra]
) -> list[tuple[int, int]]:
    """(offset, length) of their records, for a transaction."""
    geometry = file.geometry
    return [
        (
            geometry.record_offset(extra.chunk_index),
            geometry.chunk_length(extra.chunk_index, state.size) + RECORD_OVERHEAD,
        )
        for extra in extras
    ]


def encrypt(
    file: "SealedFile", state: SealedState, extras: Sequence[Extra], draft: Draft, first: int
) -> None:
    """Fill images of a transaction from the number `first` on; `state` then names them."""
    pages = []
    for number, extra in enumerate(extras, first):
        record = draft.image(number)
        padded = extra.plaintext.ljust(len(record) - RECORD_OVERHEAD, b"\0")
        nonce = file.cipher.encrypt_run(
            extra.chunk_index, [memoryview(padded)], record, kind=extra.kind
        )
        if extra.kind == KIND_EXTENT_MAP:
            pages.append(ExtentPage(extra.chunk_index, nonce, len(extra.plaintext)))
        else:
            state.chunk_set ^= file.chunk_set.digest(extra.chunk_index, nonce)
    state.extent_pages = tuple(pages)


def _read(file: "SealedFile", page: ExtentPage) -> bytes:
    geometry = file.geometry
    record = bytearray(geometry.stride)
    if file.read_record(page.chunk_index, memoryview(record)) != len(record):
        raise ChunkInvalid(page.chunk_index, "a page of the extent map was cut off in the store")
    plaintext = bytearray(geometry.chunk_size)
    nonce = file.cipher.decrypt_run(
        page.chunk_index,
        memoryview(record),
        geometry.stride,
        memoryview(plaintext),
        kind=KIND_EXTENT_MAP,
    )
    if nonce != page.nonce or page.length > len(plaintext):
        raise HeaderInvalid("a page of the extent map is not the one that was sealed")
    return bytes(plaintext[: page.length])


def _fill_smallest_holes(file: "SealedFile", size: int, extents: ExtentMap) -> list[Extra]:
    """Turn some of the smallest holes into encrypted zeros: more room, fewer runs."""
    geometry = file.geometry
    chunks = geometry.chunk_count(size)
    holes = sorted(extents.holes(chunks), key=lambda hole: hole[1] - hole[0])
    filled = []
    for first, end in holes[:_FILLED_AT_ONCE]:
        for index in range(first, end):
            zeros = bytes(geometry.chunk_length(index, size))
            filled.append(Extra(index, zeros, KIND_CHUNK))
        extents.add(first, end)
    return filled
