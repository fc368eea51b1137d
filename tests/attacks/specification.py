"""FORMAT.md's table of attacks against ours: each row there is made here, and says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.attacks.storetable import STORE_ATTACKS
from tests.attacks.table import ATTACKS, LIVE

if TYPE_CHECKING:
    from tests.attacks.attack import Attack
    from tests.attacks.storetable import StoreAttack

_WORDS = {
    # What the column "found" of the page says of a step.
    "mount": ("mount",),
    "listing": ("listing",),
    "lookup": ("lookup",),
    "enter": ("enter",),
    "open": ("open",),
    "readlink": ("readlink",),
    "read": ("read of",),
    "full read": ("every chunk",),
    "reported": ("reported", "says so"),
    "not found": ("not found",),
    "harmless": ("passed over",),
    "no attack": ("foreign",),
}
_KINDS = {10: "StoreDamaged", 12: "StoreDamaged", 26: "StoreRolledBack"}
"""By the exit code of a mount that was refused."""


class SpecRow(NamedTuple):
    """One row of the page's table."""

    attack: str
    found: str
    kind: str


def rows_of(page: str) -> dict[int, SpecRow]:
    """By number. Raises ValueError where the page has no such table."""
    lines = page.splitlines()
    start = lines.index("### 13.3 Attacks")
    first = next(at for at in range(start, len(lines)) if lines[at].startswith("| # |"))
    names = _cells(lines[first])
    columns = [names.index(name) for name in ("#", "attack", "found", "kind")]
    rows = {}
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        cells = _cells(line)
        number, attack, found, kind = (cells[at] for at in columns)
        rows[int(number)] = SpecRow(attack, found, kind)
    return rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def disagreements(page: str) -> list[str]:
    """What the page says otherwise than the attacks, and what it says and nobody tries."""
    rows = rows_of(page)
    told = []
    tried = set()
    for attack in (*ATTACKS, *LIVE, *STORE_ATTACKS):
        own = [rows[number] for number in attack.rows if number in rows]
        tried |= set(attack.rows)
        told += [f"{attack.name}: there is no row {n}" for n in attack.rows if n not in rows]
        if own and not any(_says(row.found, attack.found) for row in own):
            told.append(f"{attack.name}: rows {attack.rows} do not say {attack.found!r}")
        kind = _kind_of(attack)
        if own and kind and not any(kind in row.kind for row in own):
            told.append(f"{attack.name}: rows {attack.rows} do not say {kind}")
    told += [f"row {number} is not tried" for number in rows if number not in tried]
    return told


def _says(found: str, step: str) -> bool:
    return any(word in found for word in _WORDS[step])


def _kind_of(attack: Attack | StoreAttack) -> str:
    """Empty for what is logged, not refused."""
    code = getattr(attack, "exit_code", 0)
    if code:
        return _KINDS[code]
    return "" if attack.found in ("reported", "not found", "harmless") else attack.kind
