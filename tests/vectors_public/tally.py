"""How many of other people's vectors our own calls agree with: counted, and told at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Count:
    """Of one primitive, through one call, from one source."""

    primitive: str
    through: str
    source: str
    agree: int = 0
    inapplicable: int = 0
    disagree: list[str] = field(default_factory=list)

    def note(self, case: object, outcome: Callable[[], bool]) -> None:
        """What raises disagrees as well: refusals that are expected are the outcome's to catch."""
        try:
            agrees = outcome()
        except Exception as error:  # noqa: BLE001 counted, and told with its case
            self.disagree.append(f"{case}: {type(error).__name__}: {error}")
            return
        if agrees:
            self.agree += 1
        else:
            self.disagree.append(str(case))

    def settle(self, floor: int) -> None:
        """No disagreement, and as many cases as there are known to be: an empty set is an error."""
        assert not self.disagree, f"{self.primitive}, {self.source}: {self.disagree[:5]}"
        assert self.agree >= floor, f"{self.primitive}, {self.source}: only {self.agree} cases"


COUNTS: pytest.StashKey[list[Count]] = pytest.StashKey()


def lines(counts: list[Count]) -> list[str]:
    """A table, one line for each count."""
    head = ("primitive", "through", "vectors", "agree", "disagree", "not applicable")
    rows = [
        (
            *(one.primitive, one.through, one.source),
            *map(str, (one.agree, len(one.disagree), one.inapplicable)),
        )
        for one in sorted(counts, key=lambda one: (one.primitive, one.source))
    ]
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if at < 3 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]
