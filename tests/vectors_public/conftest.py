"""Prints the table of public vectors at the end of a run, so that every run shows its counts."""

from __future__ import annotations

import pytest

from tests.vectors_public.tally import COUNTS, Count, lines


@pytest.fixture
def count(request):
    """Begins a count: count(primitive, through, source)."""

    def begin(primitive: str, through: str, source: str) -> Count:
        made = Count(primitive, through, source)
        request.config.stash.setdefault(COUNTS, []).append(made)
        return made

    return begin


def pytest_terminal_summary(terminalreporter, config):
    counts = config.stash.get(COUNTS, [])
    if counts:
        terminalreporter.section("public test vectors")
        for line in lines(counts):
            terminalreporter.write_line(line)
