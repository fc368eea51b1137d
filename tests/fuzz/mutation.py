"""Changes of an input: of its bytes, of the numbers in its text, of the nodes of its JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

LONGEST = 1 << 16
_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_WIDE = (*_NUMBERS, 1 << 32, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64)
_WORDS = (
    b"\0",
    b"\n",
    b"\r\n",
    b"/",
    b"..",
    b",",
    b"=",
    b":",
    b"://",
    b"%00",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    "\u2028".encode(),
    "\U0001f600".encode(),
    "\u0661".encode(),  # a digit to int() and to \d, and not to anybody else
    b"NaN",
    b"Infinity",
    b"-0",
    b"1e999",
    b"1_0",
    b"0x10",
    b"null",
    b"[" * 5000,
    b'{"":' * 5000,
    b"A" * 5000,
    b"=" * 9,
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, 1e308, -0.0, "", "0", " ", "\0", "\ud800", "A" * 5000),
    *((1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 63) - 1, 10**400),
    *([], {}, [[]], [None], {"": None}, "====", "AAAA", "Pfff", "2026-13-45T99:99:99.999Z"),
)


def mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to a few changes; `others` are inputs that a piece may come from."""
    for _ in range(1 + int(random.expovariate(0.7))):
        change = random.choice(_CHANGES)
        data = change(random, data, others)[:LONGEST]
    return data


def _flip(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    if not data:
        return b"\0"
    at, made = random.randrange(len(data)), bytearray(data)
    made[at] ^= 1 << random.randrange(8)
    return bytes(made)


def _set(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]


def _number(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    size = random.choice((1, 2, 4, 8))
    number = (random.choice(_WIDE) + random.choice((-1, 0, 0, 1))) % (1 << 8 * size)
    at = random.randrange(len(data) + 1)
    return data[:at] + number.to_bytes(size, random.choice(("big", "little"))) + data[at + size :]


def _cut(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    first, second = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:first] + data[second:]


def _truncate(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _repeat(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    first, second = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:second] + data[first:second] * random.randrange(1, 4) + data[second:]


def _insert(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    word = random.choice(_WORDS) if random.random() < 0.8 else random.randbytes(8)
    return data[:at] + word + data[at + random.choice((0, len(word))) :]


def _splice(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = random.choice(others) if others else b""
    at = random.randrange(len(data) + 1)
    return data[:at] + other[random.randrange(len(other) + 1) :]


def _digits(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """A number written in text becomes another one."""
    places = [at for at, byte in enumerate(data) if 48 <= byte < 58]
    if not places:
        return data
    first = last = random.choice(places)
    while last < len(data) and 48 <= data[last] < 58:
        last += 1
    return data[:first] + str(random.choice(_WIDE)).encode() + data[last:]


def _json(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """A node of the document is replaced, dropped, doubled, added or moved."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return _flip(random, data, ())
    nodes: list[tuple[Any, Any]] = []
    if isinstance(document, dict | list):
        _collect(document, nodes)
    if not nodes:
        return json.dumps(random.choice(_VALUES)).encode("utf-8", "surrogatepass")
    holder, place = random.choice(nodes)
    other_holder, other_place = random.choice(nodes)
    match random.randrange(6):
        case 0:
            del holder[place]
        case 1 if isinstance(holder, dict):
            holder[str(place) + "x"] = holder[place]
        case 1:
            holder.append(holder[place])
        case 2:
            holder[place] = json.loads(json.dumps(other_holder[other_place]))
        case 3 if isinstance(holder[place], str):
            holder[place] = _of_text(random, holder[place])
        case _:
            holder[place] = random.choice(_VALUES)
    text = json.dumps(document, indent=random.choice((None, 1)), ensure_ascii=random.random() < 0.5)
    return text.encode("utf-8", "surrogatepass")


def _of_text(random: Random, text: str) -> str:
    changed = random.choice((_flip, _set, _cut, _repeat, _insert))(
        random, text.encode("utf-8", "replace"), ()
    )
    return changed.decode("utf-8", "replace")


def _collect(node: Any, nodes: list[tuple[Any, Any]]) -> None:
    places = list(node) if isinstance(node, dict) else range(len(node))
    for place in places:
        nodes.append((node, place))
        if isinstance(node[place], dict | list):
            _collect(node[place], nodes)


_CHANGES: tuple[Callable[[Random, bytes, Sequence[bytes]], bytes], ...] = (
    *(_flip, _flip, _set, _number, _cut, _truncate, _repeat, _insert, _splice, _digits),
    *(_json, _json, _json, _json),
)
