"""Names, symlink targets and extended attributes: everything short that a site's metadata key
encrypts (FORMAT.md sections 7, 9 and 10). AES-256-SIV (RFC 5297) throughout.

The synthetic IV of a name is also the file's name binding: a PRF of (directory id, name).
"""

import base64
import secrets
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from fsdriver.errors import NameInvalid
from fsdriver.format import base32hex

_new = tuple.__new__

BINDING_SIZE: Final = 16
NAME_MAX: Final = 255
RESERVED: Final = ".ckfs"
"""No name that a program gives may begin so in a store with plaintext names; encrypted names
cannot, as '.' is not in their alphabet."""

XATTR_PREFIX: Final = "user.ckfs."
SYMLINK_BINDINGS: Final = 2
"""Two, for a rename that is under way and for a hard link; a third link leaves it unbound."""
SYMLINK_OVERHEAD: Final = 1 + 16 + 1 + SYMLINK_BINDINGS * BINDING_SIZE
"""What a symlink's text, decoded, has more than its target."""
_SYMLINK_VERSION: Final = b"\x01"
_XATTR_SALT: Final = 16
_XATTR_FORM: Final = b"\0"
"""Leads an attribute's value: room for another form of it (FORMAT.md section 10)."""


def _cipher(metadata_key: bytes, label: bytes) -> AESSIV:
    return AESSIV(HKDFExpand(hashes.SHA256(), 64, b"ckfs 1 " + label).derive(metadata_key))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def target_id(text: str) -> bytes:
    """16 bytes that stand for a backing symlink's text: its synthetic IV. Raises NameInvalid."""
    try:
        return _unpack_symlink(text)[:16]
    except ValueError:
        raise NameInvalid("the symlink was not written by ckfs: it is foreign") from None


def _unpack_symlink(text: str) -> bytes:
    """What is sealed; ValueError for a text that no writer writes."""
    raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    # The decoder lets foreign characters and stray last bits pass: one text for one symlink.
    if _base64url(raw) != text or raw[:1] != _SYMLINK_VERSION:
        raise ValueError(text)
    return raw[1:]


def _unpack_xattr_value(plaintext: bytes) -> bytes:
    if not plaintext.startswith(_XATTR_FORM):
        raise ValueError("a form of attribute that no writer of this version writes")
    return plaintext[len(_XATTR_FORM) :]


class EncryptedName(NamedTuple):
    """A name as the store has it, and what a header holds of it."""

    text: str  # base32hex of the SIV and the ciphertext; may be longer than NAME_MAX
    binding: bytes  # 16 bytes


class NameCipher:
    """The short secrets of one site."""

    __slots__ = ("_names", "_symlinks", "_xattrs", "directory_records")

    def __init__(self, metadata_key: bytes) -> None:
        self._names = _cipher(metadata_key, b"names")
        self._symlinks = _cipher(metadata_key, b"symlinks")
        self._xattrs = _cipher(metadata_key, b"xattrs")
        self.directory_records = _cipher(metadata_key, b"directory records")

    def encrypt_name(self, directory_id: bytes, name: bytes) -> EncryptedName:
        """`name` of 1 to 255 bytes in the directory with this id."""
        sealed = self._names.encrypt(name, [directory_id])
        return _new(EncryptedName, (base32hex.encode(sealed), sealed[:BINDING_SIZE]))

    def decrypt_name(self, directory_id: bytes, text: str) -> tuple[bytes, bytes]:
        """The name and its binding; raises NameInvalid for what this directory did not write."""
        try:
            sealed = base32hex.decode(text)
            return self._names.decrypt(sealed, [directory_id]), sealed[:BINDING_SIZE]
        except (ValueError, InvalidTag):
            raise NameInvalid(
                f"the name {text!r} was not written by this folder: it is foreign, or it was "
                "moved here in the store"
            ) from None

    def encrypt_target(self, target: bytes, bindings: tuple[bytes, ...]) -> str:
        """The text of the backing symlink: valid under these names, or with none under any."""
        if len(bindings) > SYMLINK_BINDINGS:
            raise ValueError("more bindings than a symlink holds")
        slots = b"".join(bindings).ljust(SYMLINK_BINDINGS * BINDING_SIZE, b"\0")
        plaintext = bytes((len(bindings),)) + slots + target
        return _base64url(_SYMLINK_VERSION + self._symlinks.encrypt(plaintext, [_SYMLINK_VERSION]))

    def decrypt_target(self, text: str) -> tuple[bytes, tuple[bytes, ...]]:
        """The target and the names that it is valid under; raises NameInvalid."""
        try:
            plaintext = self._symlinks.decrypt(_unpack_symlink(text), [_SYMLINK_VERSION])
            count, target = plaintext[0], plaintext[1 + SYMLINK_BINDINGS * BINDING_SIZE :]
            bindings = tuple(
                plaintext[at : at + BINDING_SIZE]
                for at in range(1, 1 + min(count, SYMLINK_BINDINGS) * BINDING_SIZE, BINDING_SIZE)
            )
            if self.encrypt_target(target, bindings) != text:
                raise ValueError(text)
        except (ValueError, IndexError, InvalidTag):
            raise NameInvalid(
                "the symlink was not written by this site: it is foreign, or it was changed in "
                "the store"
            ) from None
        return target, bindings

    def encrypt_xattr_name(self, owner_id: bytes, name: bytes) -> str:
        """The backing attribute's name; `owner_id` is the file's or the directory's id."""
        return XATTR_PREFIX + base32hex.encode(self._xattrs.encrypt(name, [b"name", owner_id]))

    def decrypt_xattr_name(self, owner_id: bytes, backing_name: str) -> bytes:
        """Raises NameInvalid."""
        try:
            sealed = base32hex.decode(backing_name.removeprefix(XATTR_PREFIX))
            return self._xattrs.decrypt(sealed, [b"name", owner_id])
        except (ValueError, InvalidTag):
            raise NameInvalid(
                f"the extended attribute {backing_name!r} is foreign to this file"
            ) from None

    def encrypt_xattr_value(
        self, owner_id: bytes, name: bytes, value: bytes, *, salt: bytes | None = None
    ) -> bytes:
        """A random salt in front, so that an old value set again does not show.

        `salt` is for vectors only.
        """
        salt = salt or secrets.token_bytes(_XATTR_SALT)
        sealed = self._xattrs.encrypt(_XATTR_FORM + value, [b"value", owner_id, name, salt])
        return salt + sealed

    def decrypt_xattr_value(self, owner_id: bytes, name: bytes, stored: bytes) -> bytes:
        """Raises NameInvalid."""
        salt, sealed = stored[:_XATTR_SALT], stored[_XATTR_SALT:]
        try:
            plaintext = self._xattrs.decrypt(sealed, [b"value", owner_id, name, salt])
            return _unpack_xattr_value(plaintext)
        except (ValueError, InvalidTag):
            raise NameInvalid(
                f"the value of the extended attribute {name!r} was changed in the store"
            ) from None
