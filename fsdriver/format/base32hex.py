"""RFC 4648 base32hex in lower case without padding, strict when decoding (FORMAT.md section 7).

Its alphabet survives hosts that fold case.
"""

import base64
from typing import Final

_ALPHABET: Final = b"0123456789abcdefghijklmnopqrstuv"
_DIGIT_BITS: Final = 5


def encode(data: bytes) -> str:
    """ceil(8 n / 5) characters for n bytes."""
    return base64.b32hexencode(data).rstrip(b"=").lower().decode("ascii")


def decode(text: str) -> bytes:
    """Raises ValueError unless `text` is exactly what `encode` gives for some bytes."""
    raw = text.encode("ascii")  # UnicodeEncodeError is a ValueError
    size = len(raw) * _DIGIT_BITS // 8
    spare = len(raw) * _DIGIT_BITS - size * 8
    # int() reads base 32 in C, but would take upper case, signs and underscores too.
    if not raw or raw.translate(None, _ALPHABET) or spare >= _DIGIT_BITS:
        raise ValueError("not base32hex in lower case")
    number = int(text, 32)
    if number & ((1 << spare) - 1):
        raise ValueError("base32hex with bits beyond its last byte")
    return (number >> spare).to_bytes(size)
