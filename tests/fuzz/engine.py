"""Feeds a parser with changed inputs, and says what came out of it that must not.

Looks at outcomes instead of coverage: an input that is refused in a new way, or accepted, joins
those that are changed next. No instrumentation, so that parsers written in C are as good as ours.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.fuzz.mutation import mutate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
FOUND = HERE / "found"
SLOW_SECONDS = 5.0
_VARIES = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8,}|\d+|'.*'|\".*\"")


class Parser(NamedTuple):
    """One parser of bytes from outside.

    `parse` takes bytes and returns a value, or raises one of `allowed`; None is a refusal, too.
    `pack` gives the bytes of a value again: exactly those that were parsed if `canonical`, else
    bytes that parse to an equal value.
    """

    name: str
    parse: Callable[[bytes], Any]
    allowed: tuple[type[Exception], ...]
    pack: Callable[[Any], bytes] | None = None
    canonical: bool = True


@dataclass
class Tally:
    """What became of the inputs of one parser."""

    inputs: int = 0
    accepted: int = 0
    kinds: set[str] = field(default_factory=set)
    found: dict[str, bytes] = field(default_factory=dict)
    """Complaint -> an input, as short as it could be made."""


def corpus(parser: Parser) -> list[bytes]:
    """The entries in the tree; none is an error."""
    entries = [one.read_bytes() for one in sorted((CORPUS / parser.name).glob("*"))]
    if not entries:
        raise FileNotFoundError(f"the corpus of {parser.name} is empty: see make_corpus.py")
    return entries


def regressions(parser: Parser) -> list[Path]:
    """Inputs that were found once."""
    return sorted((FOUND / parser.name).glob("*"))


def outcome(parser: Parser, data: bytes) -> tuple[str, str]:
    """(kind, complaint): which way it went, and what is wrong with that, empty if nothing is."""
    began = time.perf_counter()
    try:
        value = parser.parse(data)
    except parser.allowed as error:
        kind = f"{type(error).__name__}: {_VARIES.sub('#', str(error))[:40]}"
        return kind, _slow(began)
    except Exception as error:  # noqa: BLE001 that is what is looked for
        # Without its text, which tells inputs from each other and not defects.
        return "unexpected", f"{type(error).__name__} at {_place(error)}"
    if value is None:
        return "refused", _slow(began)
    return "accepted", _slow(began) or _again(parser, data, value)


def _slow(began: float) -> str:
    took = time.perf_counter() - began
    return f"took more than {SLOW_SECONDS:g} s" if took > SLOW_SECONDS else ""


def _again(parser: Parser, data: bytes, value: Any) -> str:
    """What was accepted packs to the bytes that it was parsed from."""
    if parser.pack is None:
        return ""
    try:
        packed = parser.pack(value)
        if parser.canonical:
            return "" if packed == data else "packs to other bytes than it was parsed from"
        return "" if parser.parse(packed) == value else "parses to another value when packed"
    except Exception as error:  # noqa: BLE001 a value that cannot be packed was no value
        return f"packing: {type(error).__name__} at {_place(error)}"


def _place(error: BaseException) -> str:
    """The last frame outside the tests, which tells one defect from another."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "/tests/fuzz/" not in code.co_filename or not place:
            place = f"{Path(code.co_filename).name}:{code.co_name}"
        trace = trace.tb_next
    return place


def run(parser: Parser, random: Random, *, seconds: float, inputs: int | None = None) -> Tally:
    """Until the time is over, or so many inputs were tried."""
    tally = Tally()
    pool = corpus(parser)
    for data in _inputs(random, pool, seconds, inputs):
        tally.inputs += 1
        kind, complaint = outcome(parser, data)
        tally.accepted += kind == "accepted"
        # By kind of outcome, so that a long run keeps few: the shortest way to each.
        if kind not in tally.kinds or (kind == "accepted" and random.random() < 0.02):
            tally.kinds.add(kind)
            if len(pool) < 2000:
                pool.append(data)
        if complaint and complaint not in tally.found:
            tally.found[complaint] = shortened(parser, data, complaint)
    return tally


def _inputs(
    random: Random, pool: list[bytes], seconds: float, inputs: int | None
) -> Iterator[bytes]:
    end = time.monotonic() + seconds
    yield from list(pool)
    while time.monotonic() < end and (inputs is None or inputs > 0):
        if inputs is not None:
            inputs -= 1
        yield mutate(random, random.choice(pool), pool)


def shortened(parser: Parser, data: bytes, complaint: str, *, tries: int = 2000) -> bytes:
    """A shorter input with the same complaint."""
    size = max(1, len(data) // 2)
    while size and tries:
        at = 0
        while at < len(data) and tries:
            tries -= 1
            shorter = data[:at] + data[at + size :]
            if outcome(parser, shorter)[1] == complaint:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def keep(parser: Parser, data: bytes) -> Path:
    """Write what was found where it becomes a regression test."""
    folder = FOUND / parser.name
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / hashlib.sha256(data).hexdigest()[:16]
    place.write_bytes(data)
    return place
