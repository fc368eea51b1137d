"""The redo journal's bytes: the head of a journal file, and a transaction (FORMAT.md section 11).

A transaction is the new header of one file and the records that it needs, authenticated as one.
The key of a journal file comes from its whole head, whose salt is random; each transaction has a
random nonce.
"""

import secrets
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from fsdriver.errors import FormatUnsupported, JournalInvalid
from fsdriver.format.geometry import HEADER_SIZE, OFFSET_MAX
from fsdriver.format.header import READER_VERSION

MAGIC: Final = b"CKFJ"
VERSION: Final = 1
NO_CUT: Final = (1 << 64) - 1

_HEAD = struct.Struct(">4sBBxxQ16s32s")
_TAG_SIZE: Final = 16
HEAD_SIZE: Final = _HEAD.size + _TAG_SIZE
SALT_SIZE: Final = 32

_HEAD_NONCE: Final = bytes(12)
_NONCE_SIZE: Final = 12
_FRAME = struct.Struct(">4sIQQ16sQQQ")
_MAGIC_FRAME: Final = b"CKJT"
_MAGIC_PART: Final = b"CKJP"
_MAGIC_DELTA: Final = b"CKJD"
_IMAGE = struct.Struct(">QI")
HOLE_SIZE: Final = 8
"""Bytes of an image that is no record: how much of the backing file becomes a hole."""
_HEADER_AT: Final = _FRAME.size + _NONCE_SIZE
_IMAGES_AT: Final = _HEADER_AT + HEADER_SIZE
FRAME_LIMIT: Final = 1 << 31
"""Bytes of one transaction; far above what one request of the kernel needs."""


class JournalHead(NamedTuple):
    """Which journal this is: epochs rise over all sessions of a store."""

    epoch: int
    session: bytes  # 16
    salt: bytes  # 32 random bytes

    def pack(self) -> bytes:
        """64 bytes, without their tag."""
        return _HEAD.pack(MAGIC, VERSION, VERSION, self.epoch, self.session, self.salt)


class JournalCipher:
    """Authenticates one journal file. `metadata_key` is the root site's."""

    __slots__ = ("_gcm", "head")

    def __init__(self, metadata_key: bytes, head: JournalHead, packed: bytes | None = None) -> None:
        """`packed` is the head as it lies in the store, of whatever format version."""
        self.head = head
        info = b"ckfs 1 journal" + (packed or head.pack())
        self._gcm = AESGCM(HKDFExpand(hashes.SHA256(), 32, info).derive(metadata_key))

    def tag(self, nonce: bytes, data: bytes | memoryview) -> bytes:
        """16 bytes over `data`; a nonce must never be used twice."""
        return self._gcm.encrypt(nonce, b"", data)

    def holds(
        self,
        nonce: bytes | memoryview,
        data: bytes | memoryview,
        tag: bytes | memoryview,
    ) -> bool:
        """Whether that is its tag."""
        try:
            self._gcm.decrypt(bytes(nonce), bytes(tag), data)
        except InvalidTag:
            return False
        return True

    def sealed_head(self) -> bytes:
        """The first 80 bytes of the file."""
        packed = self.head.pack()
        return packed + self.tag(_HEAD_NONCE, packed)


def open_head(raw: bytes, metadata_key: bytes) -> JournalCipher:
    """Raises JournalInvalid for what is no head, or not one of this store; FormatUnsupported."""
    if len(raw) < HEAD_SIZE:
        raise JournalInvalid(f"the journal has {len(raw)} bytes: it was cut in the store")
    magic, _version, lowest, epoch, session, salt = _HEAD.unpack_from(raw)
    if magic != MAGIC:
        raise JournalInvalid("this is no journal of ckfs")
    packed = raw[: _HEAD.size]
    cipher = JournalCipher(metadata_key, JournalHead(epoch, session, salt), packed)
    if not cipher.holds(_HEAD_NONCE, packed, raw[_HEAD.size : HEAD_SIZE]):
        raise JournalInvalid("the journal's head was changed, or is another store's")
    if lowest > READER_VERSION:
        raise FormatUnsupported(
            f"the journal wants a reader of format {lowest}, this ckfs reads up to "
            f"{READER_VERSION}: use a newer ckfs"
        )
    return cipher


class Image(NamedTuple):
    """Bytes that replace others of the backing file: a record, or zeros that need no room."""

    offset: int  # in the backing file
    position: int  # in the journal file
    length: int
    hole: int = 0
    """Bytes from the offset on that are to be a hole; 0 for a record."""


class Transaction(NamedTuple):
    """What one operation changes of one backing file."""

    file_id: bytes  # 16
    inode: int
    cut: int
    """Length to which the backing file is cut first, or NO_CUT."""
    length: int
    """Of the backing file in the end."""
    header: bytes  # 512
    is_part: bool = False
    """Images that count with the next transaction of the file; no header, cut and length."""


class Draft:
    """A transaction that is being composed in a buffer, so that records are encrypted in place."""

    __slots__ = ("_images", "_views", "frame")

    def __init__(self, buffer: memoryview, images: Sequence[tuple[int, int]]) -> None:
        """`buffer` of `size_of(images)` bytes; `images` as (offset, length)."""
        self.frame = buffer
        self._images = images
        at = _IMAGES_AT + _IMAGE.size * len(images)
        self._views: list[tuple[int, int]] = []
        for _offset, length in images:
            self._views.append((at, length))
            at += length

    def image(self, number: int) -> memoryview:
        """Where the bytes of an image go."""
        at, length = self._views[number]
        return self.frame[at : at + length]

    def run(self, first: int, end: int) -> memoryview:
        """Where neighbouring images [first, end) go, one behind the other."""
        start, _length = self._views[first]
        at, length = self._views[end - 1]
        return self.frame[start : at + length]

    def finish(
        self,
        cipher: JournalCipher,
        sequence: int,
        change: Transaction,
        *,
        nonce: bytes | None = None,
    ) -> None:
        """Fill in the rest; `frame` is then what goes into the journal.

        Random, since a write that failed is made again under the same number. `nonce` is for
        vectors only.
        """
        frame = self.frame
        nonce = nonce or secrets.token_bytes(_NONCE_SIZE)
        body = len(frame) - _TAG_SIZE
        _FRAME.pack_into(
            frame,
            0,
            _MAGIC_PART if change.is_part else _MAGIC_FRAME,
            len(self._images),
            len(frame),
            sequence,
            change.file_id,
            change.inode,
            change.cut,
            change.length,
        )
        frame[_FRAME.size : _HEADER_AT] = nonce
        frame[_HEADER_AT:_IMAGES_AT] = change.header
        at = _IMAGES_AT
        for offset, length in self._images:
            _IMAGE.pack_into(frame, at, offset, length)
            at += _IMAGE.size
        frame[body:] = cipher.tag(nonce, frame[:body])

    def placed(self, position: int) -> list[Image]:
        """The images, once the frame lies at `position` of the journal."""
        return [
            Image(offset, position + at, length, _hole(self.frame, at, length))
            for (offset, length), (at, _length) in zip(self._images, self._views, strict=True)
        ]


def _hole(frame: memoryview, at: int, length: int) -> int:
    return int.from_bytes(frame[at : at + length]) if length == HOLE_SIZE else 0


def size_of(images: Sequence[tuple[int, int]]) -> int:
    """Bytes of a transaction with these images."""
    return (
        _IMAGES_AT
        + _IMAGE.size * len(images)
        + sum(length for _offset, length in images)
        + _TAG_SIZE
    )


FRAME_HEAD: Final = _FRAME.size
"""What has to be read to know how long a transaction is."""


def frame_length(head: bytes) -> int:
    """The length that a transaction claims; raises JournalInvalid for what is none."""
    if len(head) < _FRAME.size:
        raise JournalInvalid("the journal ends here")
    magic, count, length, *_rest = _FRAME.unpack_from(head)
    if magic == _MAGIC_DELTA:
        count = 0
    elif magic not in (_MAGIC_FRAME, _MAGIC_PART):
        raise JournalInvalid("no transaction begins here")
    if not (FRAME_HEAD if magic == _MAGIC_DELTA else size_of(()) + _IMAGE.size * count) <= length:
        raise JournalInvalid("no transaction begins here")
    if length > FRAME_LIMIT:
        raise JournalInvalid("a transaction is longer than any writer makes one")
    return int(length)


def parse(
    frame: memoryview, position: int, sequence: int, cipher: JournalCipher
) -> tuple[Transaction, list[Image]]:
    """One whole transaction. Raises JournalInvalid for a torn or forged one, or another's turn."""
    if frame_length(bytes(frame[: _FRAME.size])) != len(frame):
        raise JournalInvalid("a transaction is not whole")
    body = len(frame) - _TAG_SIZE
    if not cipher.holds(frame[_FRAME.size : _HEADER_AT], frame[:body], frame[body:]):
        raise JournalInvalid("a transaction is torn, or was changed in the store")
    magic, count, _length, number, file_id, inode, cut, length = _FRAME.unpack_from(frame)
    if magic == _MAGIC_DELTA:
        raise JournalInvalid("a delta is no transaction")
    images = []
    at, data = _IMAGES_AT, _IMAGES_AT + _IMAGE.size * count
    for _number in range(count):
        offset, size = _IMAGE.unpack_from(frame, at)
        if data + size > body or offset + size > OFFSET_MAX:
            raise JournalInvalid("a transaction's images are not in their places")
        hole = _hole(frame, data, size)
        if offset + hole > OFFSET_MAX:
            raise JournalInvalid("a hole of a transaction goes beyond the end of every file")
        images.append(Image(offset, position + data, size, hole))
        at += _IMAGE.size
        data += size
    if data != body or number != sequence or length > OFFSET_MAX:
        raise JournalInvalid("a transaction is not in the form that a writer gives it")
    header = bytes(frame[_HEADER_AT:_IMAGES_AT])
    is_part = magic == _MAGIC_PART
    if is_part and (cut != NO_CUT or length or any(header)):
        raise JournalInvalid("a part of a transaction has what only a whole one has")
    return Transaction(file_id, inode, cut, length, header, is_part), images


def is_delta(frame: memoryview) -> bool:
    """Whether it is to be parsed by delta.py."""
    return bytes(frame[:4]) == _MAGIC_DELTA


def part_of(file_id: bytes, inode: int) -> Transaction:
    """What a part says besides its images."""
    return Transaction(file_id, inode, NO_CUT, 0, bytes(HEADER_SIZE), is_part=True)
