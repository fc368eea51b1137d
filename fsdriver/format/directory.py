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

_CLEAR = struct.Struct(">4sBBBB16s16s")
_SEALED = struct.Struct(">QB7x16s16s")
RECORD_SIZE: Final = _CLEAR.size + 16 + _SEALED.size


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
        first, *rest = self.bindings
        second = rest[0] if rest else bytes(16)
        sealed = _SEALED.pack(self.generation, len(self.bindings), first, second)
        return clear + cipher.encrypt(sealed, [clear])


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
    clear, sealed = record[: _CLEAR.size], record[_CLEAR.size :]
    try:
        generation, count, first, second = _SEALED.unpack(cipher.decrypt(sealed, [clear]))
    except (InvalidTag, ValueError, struct.error):
        raise DirectoryRecordInvalid(
            "the folder's record was changed in the store, or belongs to another site; restore "
            "the file .ckfs-dir from a backup of the store"
        ) from None
    bindings = (first, second)[:count]
    opened = DirectoryRecord(clear[8:24], clear[24:40], generation, bindings)
    if not bindings or opened.seal(cipher) != record:
        raise DirectoryRecordInvalid("the folder's record is not in the form a writer gives it")
    return opened
