"""What a file key is expanded into (FORMAT.md section 2): one sub-key for each purpose."""

from typing import Final, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

FILE_KEY_SIZE: Final = 32
_LABEL: Final = b"ckfs 1 file keys"
_SHA256: Final = hashes.SHA256()


class FileKeys(NamedTuple):
    """The sub-keys of one file; `commitment` is public and goes into the header.

    Prints without the keys, and is not pickled.
    """

    header_key: bytes  # 32 bytes, AES-256-GCM of the header's sealed part
    chunk_key: bytes  # 32 bytes, XAES-256-GCM of chunks and extent-map pages, PRF of their set
    commitment: bytes  # 32 bytes

    def __repr__(self) -> str:
        return f"<FileKeys with commitment {self.commitment.hex()}>"

    def __reduce__(self) -> str:
        raise TypeError("FileKeys hold keys and are not pickled")


def derive(file_key: bytes, file_id: bytes) -> FileKeys:
    """HKDF-Expand (RFC 5869 section 2.3, SHA-256) of a uniformly random 32-byte file key.

    The commitment is an output of HMAC-SHA-256 keyed by the file key: two file keys with one
    commitment would be a collision of SHA-256.
    """
    output = HKDFExpand(_SHA256, 96, _LABEL + file_id).derive(file_key)
    return FileKeys(output[:32], output[32:64], output[64:])
