"""RFC 4648 base32hex in lower case without padding, strict when decoding (FORMAT.md section 7).

Its alphabet survives hosts that fold case. The library's encoder is a loop in Python, and every
name that is created or looked up for the first time comes through here; so all digits of a text
are moved to their bytes together, as one number.
"""

from typing import Final

_ALPHABET: Final = b"0123456789abcdefghijklmnopqrstuv"
_DIGIT_BITS: Final = 5
_TABLE: Final = _ALPHABET + bytes(256 - len(_ALPHABET))


def _steps_for(digits: int) -> tuple[tuple[int, int], ...]:
    """How to move `digits` groups of 5 bits to the starts of as many bytes, in halving blocks.

    Each step has the shift, and the mask of what moves by it: of every two neighbouring blocks
    the upper one. Blocks are cut from the low end.
    """
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
    return tuple(steps)


_STEPS: Final[dict[int, tuple[int, int, tuple[tuple[int, int], ...]]]] = {}
"""By the length of what is encoded: digits, bits that fill up the last one, and the steps."""


def encode(data: bytes) -> str:
    """ceil(8 n / 5) characters for n bytes."""
    plan = _STEPS.get(len(data))
    if plan is None:
        digits = -(-len(data) * 8 // _DIGIT_BITS)
        plan = digits, digits * _DIGIT_BITS - len(data) * 8, _steps_for(digits)
        if len(_STEPS) < 1024:  # names have 255 bytes at most
            _STEPS[len(data)] = plan
    digits, spare, steps = plan
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
