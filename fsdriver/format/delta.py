"""A delta's bytes: a change of a part of a file, as a frame of the journal (FORMAT.md 11.4).

The content is encrypted under the chunk key of its file, bound to the file, its generation and its
place; the frame as a whole is authenticated as a transaction is, so that the end of a journal can
be found without a key of any file.
"""

import secrets
import struct
from typing import Final, NamedTuple

from fsdriver.errors import JournalInvalid
from fsdriver.format.chunk import ChunkCipher
from fsdriver.format.geometry import NONCE_SIZE, OFFSET_MAX, RECORD_OVERHEAD
from fsdriver.format.journal import JournalCipher

MAGIC: Final = b"CKJD"
KIND: Final = b"\x03\x01"
_FRAME = struct.Struct(">4s4xQQ16sQQQQ")
_HEAD = struct.Struct(">4s4xQQ16sQQQQ12s")
_BOUND = struct.Struct(">16sQ2sQQ")
_MAC_NONCE: Final = 12
_TAG: Final = 16
RECORD_AT: Final = _FRAME.size + _MAC_NONCE
"""Of the encrypted content in a frame."""
OVERHEAD: Final = RECORD_AT + RECORD_OVERHEAD + _TAG
"""What a frame adds to the content."""


class Delta(NamedTuple):
    """A change that makes a file of one generation the next one."""

    file_id: bytes  # 16
    inode: int
    generation: int
    offset: int
    """Of the content in the plaintext; never behind the end that the file had before."""
    final: int
    """Length of the backing file once it is in place, which says the plaintext's size."""


def pack(
    frame: memoryview,
    change: Delta,
    data: memoryview,
    chunks: ChunkCipher,
    cipher: JournalCipher,
    sequence: int,
    *,
    random: bytes | None = None,
) -> None:
    """Fill a frame of `len(data) + OVERHEAD` bytes. `random` is for vectors only."""
    random = random or secrets.token_bytes(_MAC_NONCE + NONCE_SIZE)
    nonce = random[:_MAC_NONCE]
    length = len(frame)
    body = length - _TAG
    _HEAD.pack_into(frame, 0, MAGIC, length, sequence, *change, nonce)
    chunks.encrypt_message(random[_MAC_NONCE:], data, bound_data(change), frame[RECORD_AT:body])
    frame[body:] = cipher.tag(nonce, frame[:body])


def bound_data(change: Delta) -> bytes:
    """The associated data of its content."""
    file_id, _inode, generation, offset, final = change
    return _BOUND.pack(file_id, generation, KIND, offset, final)


def parse(
    frame: memoryview, position: int, sequence: int, cipher: JournalCipher
) -> tuple[Delta, tuple[int, int]]:
    """A delta; the position of its record in the journal, and the length of its content.

    Raises JournalInvalid for one that is torn or forged, or another's turn.
    """
    if len(frame) <= OVERHEAD:
        raise JournalInvalid("a delta is not whole")
    magic, length, number, file_id, inode, generation, offset, final = _FRAME.unpack_from(frame)
    if magic != MAGIC or length != len(frame):
        raise JournalInvalid("a delta is not whole")
    body = len(frame) - _TAG
    if not cipher.holds(frame[_FRAME.size : RECORD_AT], frame[:body], frame[body:]):
        raise JournalInvalid("a delta is torn, or was changed in the store")
    content = len(frame) - OVERHEAD
    if any(frame[4:8]) or number != sequence or max(offset + content, final) > OFFSET_MAX:
        raise JournalInvalid("a delta is not in the form that a writer gives it")
    change = Delta(file_id, inode, generation, offset, final)
    return change, (position + RECORD_AT, content)


def renumber(frame: bytearray, cipher: JournalCipher, sequence: int) -> None:
    """Make a frame of another journal one of this one, with its content as it is."""
    body = len(frame) - _TAG
    nonce = secrets.token_bytes(_MAC_NONCE)
    frame[16:24] = sequence.to_bytes(8)
    frame[_FRAME.size : RECORD_AT] = nonce
    frame[body:] = cipher.tag(nonce, memoryview(frame)[:body])


def frame_place(record: int, content: int) -> tuple[int, int]:
    """Position and length of the frame around the record of a delta in the journal."""
    return record - RECORD_AT, content + OVERHEAD
