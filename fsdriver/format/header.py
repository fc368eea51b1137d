"""A file's header: pack and parse its clear and its sealed part (FORMAT.md section 3).

The wrapped file key is opaque here. Nothing of the clear part may be believed before the sealed
part has opened: it is the sealed part's associated data.
"""

import struct
from dataclasses import dataclass, field
from secrets import SystemRandom
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fsdriver.errors import FormatUnsupported, HeaderInvalid
from fsdriver.format.geometry import CHUNK_SIZES, HEADER_SIZE, NONCE_SIZE, TAG_SIZE

MAGIC: Final = b"CKFS"
RECORD_FILE: Final = 1
FORMAT_VERSION: Final = 1
READER_VERSION: Final = 1

CLEAR_SIZE: Final = 128
SEAL_NONCE_SIZE: Final = 12
SEALED_SIZE: Final = HEADER_SIZE - CLEAR_SIZE - SEAL_NONCE_SIZE - TAG_SIZE
"""Plaintext bytes of the sealed part."""

_draw: Final = SystemRandom().randbytes
_SEALED_AT: Final = CLEAR_SIZE + SEAL_NONCE_SIZE

BINDING_SIZE: Final = 16
BINDINGS: Final = 4
SESSION_SIZE: Final = 16
MAP_SIZE: Final = 204
MAP_PAGES: Final = 5

_CLEAR = struct.Struct(">4sBBBBB3sI16s16s48s32s")
_FILLER: Final = bytes(3)
_CHUNK_SIZES: Final = {size.bit_length() - 1: size for size in CHUNK_SIZES}
_SEALED = struct.Struct(f">QQBBBBHH16s{SESSION_SIZE}s32s{BINDINGS * BINDING_SIZE}s{MAP_SIZE}s")
_PAGE = struct.Struct(f">Q{NONCE_SIZE}sI")

_DIRTY: Final = 1
_SPARSE: Final = 2
_UNBOUND: Final = 4
_CONTENT_DIGEST: Final = 8
_MAP_IN_PAGES: Final = 16
_KNOWN_FLAGS: Final = 31
_UNCOMMON: Final = _SPARSE | _CONTENT_DIGEST | _MAP_IN_PAGES
_NO_CONTENT_DIGEST: Final = bytes(32)
_NO_MAP: Final = bytes(MAP_SIZE)
_NO_NAMES: Final = tuple(bytes((BINDINGS - count) * BINDING_SIZE) for count in range(BINDINGS + 1))
"""What fills up the room behind this many bindings."""


class ClearHeader(NamedTuple):
    """What anybody with the store can read: enough to find the key, nothing of the content."""

    chunk_size: int
    site_key_generation: int
    file_id: bytes  # 16 random bytes
    site_id: bytes  # 16
    wrapped_file_key: bytes  # 48, opaque
    key_commitment: bytes  # 32
    format_version: int = FORMAT_VERSION
    lowest_reader: int = READER_VERSION

    def pack(self) -> bytes:
        """128 bytes."""
        return _CLEAR.pack(
            MAGIC,
            RECORD_FILE,
            self.format_version,
            self.lowest_reader,
            0,
            self.chunk_size.bit_length() - 1,
            _FILLER,
            self.site_key_generation,
            self.file_id,
            self.site_id,
            self.wrapped_file_key,
            self.key_commitment,
        )

    @classmethod
    def parse(cls, header: bytes) -> "ClearHeader":
        """Raises HeaderInvalid or FormatUnsupported; `header` may be the whole 512 bytes."""
        if len(header) < CLEAR_SIZE:
            raise HeaderInvalid(
                f"the backing file has {len(header)} bytes, a header has {HEADER_SIZE}: it was cut"
            )
        (
            magic,
            record,
            version,
            lowest,
            flags,
            bits,
            filler,
            generation,
            file_id,
            site_id,
            wrapped,
            commitment,
        ) = _CLEAR.unpack_from(header)
        if magic != MAGIC or record != RECORD_FILE:
            raise HeaderInvalid("this is no ckfs file: the first bytes are not a file header's")
        if lowest > READER_VERSION:
            raise FormatUnsupported(
                f"the file wants a reader of format {lowest}, this ckfs reads up to "
                f"{READER_VERSION}: use a newer ckfs"
            )
        chunk_size = _CHUNK_SIZES.get(bits)
        # Every byte is now in one of the fields, so what passes is what `pack` gives.
        if chunk_size is None or flags or filler != _FILLER:
            raise HeaderInvalid("the header has a chunk size, flag or filler that no writer writes")
        return cls(chunk_size, generation, file_id, site_id, wrapped, commitment, version, lowest)


def file_id_of(header: bytes) -> bytes:
    """The file id that a header claims, nothing verified; empty if there is none."""
    return header[16:32] if len(header) >= CLEAR_SIZE else b""


class ExtentPage(NamedTuple):
    """Where one page of a large extent map lies: in the slot of a chunk that is a hole."""

    chunk_index: int
    nonce: bytes
    length: int


@dataclass(slots=True)
class SealedState:
    """What only the file key's holder can read or write."""

    size: int = 0
    generation: int = 0
    session: bytes = bytes(SESSION_SIZE)
    """The driver's session that sealed it (sessions.py)."""
    dirty: bool = False
    unbound: bool = False
    chunk_set: int = 0
    bindings: tuple[bytes, ...] = ()
    content_digest: bytes | None = None
    extents: bytes | None = None
    """The packed extent map of a sparse file if it fits; None for a dense file."""
    extent_pages: tuple[ExtentPage, ...] = field(default=())

    def copy(self) -> "SealedState":
        """One that can be changed alone."""
        return SealedState(
            self.size,
            self.generation,
            self.session,
            self.dirty,
            self.unbound,
            self.chunk_set,
            self.bindings,
            self.content_digest,
            self.extents,
            self.extent_pages,
        )

    def pack(self) -> bytes:
        """356 bytes; raises ValueError for a state that the format cannot hold."""
        flags = (_DIRTY if self.dirty else 0) | (_UNBOUND if self.unbound else 0)
        area, length, content = _NO_MAP, 0, _NO_CONTENT_DIGEST
        if self.extent_pages:
            flags |= _SPARSE | _MAP_IN_PAGES
            area = b"".join([_PAGE.pack(*page) for page in self.extent_pages])
        elif self.extents is not None:
            flags |= _SPARSE
            area, length = self.extents, len(self.extents)
        if self.content_digest is not None:
            flags |= _CONTENT_DIGEST
            content = self.content_digest
        bindings = self.bindings
        if len(bindings) > BINDINGS or len(area) > MAP_SIZE:
            raise ValueError("more bindings or extents than a header holds")
        return _SEALED.pack(
            self.size,
            self.generation,
            flags,
            len(bindings),
            len(self.extent_pages),
            0,
            length,
            0,
            self.chunk_set.to_bytes(16),
            self.session,
            content,
            b"".join(bindings),
            area,
        )

    @classmethod
    def parse(cls, plaintext: bytes) -> "SealedState":
        """Raises HeaderInvalid for anything that `pack` would not have written."""
        (
            size,
            generation,
            flags,
            count,
            pages,
            filler,
            length,
            filler_2,
            digest,
            session,
            content,
            names,
            area,
        ) = _SEALED.unpack(plaintext)
        if flags & ~_KNOWN_FLAGS or count > BINDINGS or pages > MAP_PAGES or length > MAP_SIZE:
            raise HeaderInvalid("the sealed part has a flag or a count that this reader lacks")
        bindings = tuple(
            [names[at : at + BINDING_SIZE] for at in range(0, count * BINDING_SIZE, BINDING_SIZE)]
        )
        state = cls(
            size,
            generation,
            session,
            bool(flags & _DIRTY),
            bool(flags & _UNBOUND),
            int.from_bytes(digest),
            bindings,
        )
        if flags & _UNCOMMON:
            state._take_uncommon(flags, content, area, length, pages)
            as_written = state.pack() == plaintext
        else:
            # Every byte is in one of the fields, so what passes is what `pack` gives.
            as_written = (
                not (pages or filler or length or filler_2)
                and content == _NO_CONTENT_DIGEST
                and area == _NO_MAP
                and names.endswith(_NO_NAMES[count])
            )
        if not as_written:
            raise HeaderInvalid("the sealed part is not in the form that a writer gives it")
        return state

    def _take_uncommon(
        self, flags: int, content: bytes, area: bytes, length: int, pages: int
    ) -> None:
        """What the header of a dense file does not have."""
        if flags & _CONTENT_DIGEST:
            self.content_digest = content
        if flags & _MAP_IN_PAGES:
            self.extent_pages = tuple(
                ExtentPage(*_PAGE.unpack_from(area, number * _PAGE.size)) for number in range(pages)
            )
        elif flags & _SPARSE:
            self.extents = area[:length]


def seal(clear: bytes, state: SealedState, cipher: AESGCM, *, nonce: bytes | None = None) -> bytes:
    """The 512 bytes of a header. `cipher` is AES-256-GCM under the file's header key.

    `nonce` is for vectors only: every other caller lets 12 random bytes be drawn (FORMAT.md 3.2
    has how many headers that is good for).
    """
    nonce = nonce or _draw(SEAL_NONCE_SIZE)
    return clear + nonce + cipher.encrypt(nonce, state.pack(), clear)


def unseal(header: bytes, cipher: AESGCM) -> SealedState:
    """Raises HeaderInvalid when a bit of the header is not what was sealed."""
    if len(header) != HEADER_SIZE:
        raise HeaderInvalid(
            f"the backing file has {len(header)} bytes, a header has {HEADER_SIZE}: it was cut"
        )
    try:
        plaintext = cipher.decrypt(
            header[CLEAR_SIZE:_SEALED_AT], header[_SEALED_AT:], header[:CLEAR_SIZE]
        )
    except InvalidTag:
        raise HeaderInvalid(
            "the header's tag fails: it was changed in the store; restore the file from a backup"
        ) from None
    return SealedState.parse(plaintext)
