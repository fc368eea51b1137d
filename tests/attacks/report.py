"""One row for each attack, as text and as JSON: ours, and the peers beside it."""

from __future__ import annotations

import errno
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tests.attacks.attack import NO_ATTACK, NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.attacks.ours import Result
    from tests.attacks.wholerun import WholeResult


@dataclass
class Row:
    """One attack and what came of it."""

    name: str
    what: str
    format_rows: list[int]
    expected: str
    found: str
    """mount, a step, reported, not found, harmless, no attack, hidden, or accepted."""
    errno: list[str] = field(default_factory=list)
    """What a program saw; of a refused mount its exit code."""
    log: list[str] = field(default_factory=list)
    """Kinds of the lines."""
    audit: list[str] = field(default_factory=list)
    """Events in the host's audit log."""
    scrub: list[str] = field(default_factory=list)
    """Kinds of its findings."""
    why: str = ""
    wrong: list[str] = field(default_factory=list)
    """What is not as the table says."""
    peers: dict[str, str] = field(default_factory=dict)


def of_room(result: Result) -> Row:
    attack = result.attack
    return Row(
        attack.name,
        attack.what,
        list(attack.rows),
        attack.found,
        result.found,
        sorted(errno.errorcode.get(code, str(code)) for code in result.codes),
        result.kinds,
        sorted({record["event"] for record in result.audit}),
        sorted({finding["kind"] for finding in result.scrub}),
        attack.why,
        result.wrong,
    )


def of_whole(result: WholeResult) -> Row:
    attack = result.attack
    codes = {one.code for one in result.seen.values() if one.code}
    return Row(
        attack.name,
        attack.what,
        list(attack.rows),
        attack.found,
        result.found,
        [f"exit {result.exit_code}"]
        if result.exit_code
        else sorted(errno.errorcode.get(code, str(code)) for code in codes),
        result.kinds,
        sorted(set(result.audit)),
        [],
        attack.why,
        result.wrong,
    )


def as_json(rows: Iterable[Row], versions: dict[str, str]) -> dict[str, Any]:
    """Keys are added, never renamed."""
    return {"format": 1, "peers": versions, "attacks": [asdict(row) for row in rows]}


def as_text(rows: list[Row], versions: dict[str, str]) -> str:
    """A table for a wide terminal, then what needs words."""
    head = ["attack", "ckfs", "program", "log", "audit", "scrub", *versions]
    body = [
        [
            row.name + (" *" if row.wrong else ""),
            row.found,
            " ".join(row.errno),
            " ".join(row.log),
            " ".join(row.audit),
            " ".join(row.scrub),
            *(row.peers.get(peer, "") for peer in versions),
        ]
        for row in rows
    ]
    lines = _columns([head, *body])
    lines += ["", *(f"{peer}: {version}" for peer, version in versions.items())]
    for title, told in (
        ("Not found, and why:", [row for row in rows if row.expected == NOT_FOUND]),
        (
            "No attack: everything is readable, what is foreign is shown as that:",
            [row for row in rows if row.expected == NO_ATTACK],
        ),
    ):
        lines += ["", title, *(f"  {row.name}: {row.why or row.what}" for row in told)]
    wrong = [row for row in rows if row.wrong]
    if wrong:
        lines += ["", "* not as it should be:"]
        lines += [f"  {row.name}: {'; '.join(row.wrong)}" for row in wrong]
    return "\n".join(lines)


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
