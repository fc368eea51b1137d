"""RFC 4648 base32hex in lower case without padding, strict when decoding (FORMAT.md section 7).

Its alphabet survives hosts that fold case. The library's encoder is a loop in Python, and every
name that is created or looked up for the first time comes through here; so all digits of a text
are moved to their bytes together, as one number.
"""

from functools import lru_cache
from typing import Final

_ALPHABET: Final = b"0123456789abcdefghijklmnopqrstuv"
_DIGIT_BITS: Final = 5
_TABLE: Final = _ALPHABET + bytes(256 - len(_ALPHABET))


@lru_cache(maxsize=512)
def _plan(length: int) -> tuple[int, int, tuple[tuple[int, int], ...]]:
    """For bytes of this length: digits, bits that fill up the last one, and the steps.

    Each step moves groups of 5 bits towards the starts of their bytes, in blocks that halve: it
    has the shift, and the mask of what moves by it, which is of every two neighbouring blocks the
    upper one. Blocks are cut from the low end.
    """
    digits = -(-length * 8 // _DIGIT_BITS)
    steps = []
    block = 1
    while block < digits:
        block *= 2
    while block > 1:
        half = block // 2
        upper = ((1 << (half * _DIGIT_BITS)) - 1) << (half * _DIGIT_BITS)
        mask = sum(upper << (8 * at) for at in range(0, digits, block))
        steps.append(((8 - _DIGIT_BITS) * half, mask))
        block = half
    return digits, digits * _DIGIT_BITS - length * 8, tuple(steps)


def encode(data: bytes) -> str:
    """ceil(8 n / 5) characters for n bytes."""
    digits, spare, steps = _plan(len(data))
    number = int.from_bytes(data) << spare
    for shift, mask in steps:
        moved = number & mask
        number += (moved << shift) - moved
    return number.to_bytes(digits).translate(_TABLE).decode("ascii")


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
