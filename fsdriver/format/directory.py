"""A folder's record: its random id, its site and the name it was sealed under (FORMAT.md 8)."""

import struct
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from fsdriver.errors import DirectoryRecordInvalid, FormatUnsupported
from fsdriver.format.header import FORMAT_VERSION, MAGIC, READER_VERSION

RECORD_NAME: Final = ".ckfs-dir"
RECORD_DIRECTORY: Final = 2
ROOT_BINDING: Final = bytes(16)
"""The binding of a store's root folder, which has no name."""

_NO_BINDING: Final = bytes(16)

_CLEAR = struct.Struct(">4sBBBB16s16s")
_SEALED = struct.Struct(">QB7x16s16s")
RECORD_SIZE: Final = _CLEAR.size + 16 + _SEALED.size
_NOT_A_WRITERS: Final = "the folder's record is not in the form a writer gives it"


class DirectoryRecord(NamedTuple):
    """One or two bindings: two while a rename is under way."""

    directory_id: bytes  # 16
    site_id: bytes  # 16
    generation: int
    bindings: tuple[bytes, ...]  # 16 bytes each

    def seal(self, cipher: AESSIV) -> bytes:
        """104 bytes; `cipher` is the site's key for directory records."""
        clear = _CLEAR.pack(
            MAGIC,
            RECORD_DIRECTORY,
            FORMAT_VERSION,
            READER_VERSION,
            0,
            self.directory_id,
            self.site_id,
        )
        return clear + cipher.encrypt(_pack_sealed(self), [clear])


def _pack_sealed(record: DirectoryRecord) -> bytes:
    if len(record.bindings) not in (1, 2):
        raise ValueError("a folder's record holds one binding, or two during a rename")
    first, second = (*record.bindings, _NO_BINDING)[:2]
    return _SEALED.pack(record.generation, len(record.bindings), first, second)


def _parse(clear: bytes, plaintext: bytes) -> DirectoryRecord:
    generation, count, first, second = _SEALED.unpack(plaintext)
    record = DirectoryRecord(clear[8:24], clear[24:40], generation, (first, second)[:count])
    # Only the sealed part: a newer writer's version is no fault as long as it admits this reader.
    if not count or _pack_sealed(record) != plaintext:
        raise DirectoryRecordInvalid("the folder's record is not in the form a writer gives it")
    return record


def site_of(record: bytes) -> bytes:
    """The site id that a record claims, to find the key that must open it.

    Raises DirectoryRecordInvalid or FormatUnsupported.
    """
    if len(record) < _CLEAR.size:
        raise DirectoryRecordInvalid(f"the folder's record has {len(record)} bytes: it was cut")
    magic, kind, _version, lowest, flags, _directory_id, site_id = _CLEAR.unpack_from(record)
    if magic != MAGIC or kind != RECORD_DIRECTORY or flags:
        raise DirectoryRecordInvalid("the folder's record is not one that ckfs writes")
    if lowest > READER_VERSION:
        raise FormatUnsupported(
            f"the folder wants a reader of format {lowest}, this ckfs reads up to "
            f"{READER_VERSION}: use a newer ckfs"
        )
    return bytes(site_id)


def unseal(record: bytes, cipher: AESSIV) -> DirectoryRecord:
    """Raises DirectoryRecordInvalid unless every bit is as it was sealed."""
    site_of(record)
    if len(record) != RECORD_SIZE:
        raise DirectoryRecordInvalid(
            f"the folder's record has {len(record)} bytes and not {RECORD_SIZE}: it was cut or "
            "extended; restore the file .ckfs-dir from a backup of the store"
        )
    clear, sealed = record[: _CLEAR.size], record[_CLEAR.size :]
    try:
        plaintext = cipher.decrypt(sealed, [clear])
    except InvalidTag:
        raise DirectoryRecordInvalid(
            "the folder's record was changed in the store, or belongs to another site; restore "
            "the file .ckfs-dir from a backup of the store"
        ) from None
    return _parse(clear, plaintext)
