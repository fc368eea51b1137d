"""A driven store whose host's folder may lie on a disk of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.mounted.driving import Driven


@dataclass
class Cuttable(Driven):
    """As any other driven store, but for where the host keeps its keys and notes."""

    state_place: Path | None = None

    @property
    def state(self) -> Path:
        return self.state_place or self.folder / "state"
