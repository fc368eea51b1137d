"""Names, versions, key identifiers and unpadded base64url, as Key Vault spells them.

Pure: text in, text or bytes out. What a name refers to is decided in `keyring`.
"""

import base64
import binascii
import re
import secrets

_KEY_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
_VAULT_NAME = re.compile(r"[a-z](?:-?[0-9a-z])*")
_VAULT_NAME_LENGTH = range(3, 25)
_BASE64URL = re.compile(r"[0-9A-Za-z_-]*")

# Names in the vault domain that belong to the server itself.
AUTHORITY_LABEL = "login"
RESERVED_LABELS = frozenset({AUTHORITY_LABEL, "admin", "www"})


def is_key_name(text: str) -> bool:
    return _KEY_NAME.fullmatch(text) is not None


def is_vault_name(text: str) -> bool:
    """3 to 24 lower-case letters, digits and single hyphens, starting with a letter."""
    return (
        len(text) in _VAULT_NAME_LENGTH
        and _VAULT_NAME.fullmatch(text) is not None
        and text not in RESERVED_LABELS
    )


def new_version() -> str:
    return secrets.token_hex(16)


def to_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64url(text: str) -> bytes:
    """Strict: an alphabet or length error raises ValueError; padding is tolerated at the end."""
    bare = text.rstrip("=")
    if _BASE64URL.fullmatch(bare) is None:
        raise ValueError("not base64url: a character outside the alphabet")
    try:
        return base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except binascii.Error as error:
        raise ValueError(f"not base64url: {error}") from error


def split_host(host: str) -> tuple[str, str]:
    """`kv1.vault.test:8443` becomes (`kv1.vault.test`, `:8443`); the port part may be empty."""
    name, colon, port = host.rpartition(":")
    if colon and port.isdecimal():
        return name.lower(), f":{port}"
    return host.lower(), ""


def label_in_domain(host: str, domain: str) -> str | None:
    """The one label in front of `.domain`, or None when the host is not directly in the domain."""
    name, _ = split_host(host)
    suffix = f".{domain}"
    if not name.endswith(suffix):
        return None
    label = name.removesuffix(suffix)
    return label if label and "." not in label else None
