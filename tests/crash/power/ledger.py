"""What a program was told, written down outside the disk that is cut.

A step is written before it is taken and again when it was acknowledged. So of one program hardly
more than the last step is open: it may have been done, in part or not at all.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Step:
    """One thing that a program did."""

    verb: str
    facts: list[Any]
    done: bool = False
    error: int = 0
    ended_at: float = 0.0
    """On the monotonic clock."""


class Ledger:
    """The writing end, of one program."""

    def __init__(self, place: Path) -> None:
        self._descriptor = os.open(place, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    @contextmanager
    def step(self, verb: str, *facts: object) -> Iterator[None]:
        """What is done inside is acknowledged when it ends."""
        os.write(self._descriptor, json.dumps([verb, *facts]).encode() + b"\n")
        try:
            yield
        except OSError as error:
            self._failed(error.errno or 0)
            raise
        except BaseException:
            self._failed(0)
            raise
        os.write(self._descriptor, b"+ 0 %a\n" % time.monotonic())

    def _failed(self, code: int) -> None:
        os.write(self._descriptor, b"- %d %a\n" % (code, time.monotonic()))


def steps(place: Path, until: float) -> list[Step]:
    """The reading end. What ended after `until` is open, whatever the program was told.

    A disk that loses its power tells nobody anything any more; one that is being shut down does.
    """
    found: list[Step] = []
    for line in place.read_text().splitlines() if place.exists() else ():
        if line.startswith("["):
            verb, *facts = json.loads(line)
            found.append(Step(verb, facts))
        else:
            sign, code, when = line.split(" ")
            step = found[-1]
            step.error, step.ended_at = int(code), float(when)
            step.done = sign == "+" and step.ended_at < until
    return found
