"""The power goes at any instant: what was fsynced is there, and nothing is half.

`make crash-power` cuts many more; `python -m tests.crash.power --help` repeats one.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.crash.power.cycle import CYCLES, Outcome, Setting
from tests.crash.power.foldering import Foldering
from tests.crash.power.overwriting import Overwriting
from tests.crash.power.sixfiles import SixFiles

pytestmark = [pytest.mark.mounted, pytest.mark.crash]

NO_SYNCS = (
    *("strace", "-D", "-f", "-qq", "-o", "/dev/null"),
    *("-e", "trace=fsync,fdatasync,syncfs"),
    *("-e", "inject=fsync,fdatasync,syncfs:retval=0"),
)


def said(outcome: Outcome) -> str:
    return "\n".join(outcome.wrong)


@pytest.mark.parametrize("seed", range(4))
def test_power_cuts(templates, seed):
    """Four chains: ext4 and XFS, two chunk sizes, the host's notes cut with the store in one."""
    outcome = templates.run(Setting.of(seed), longest=0.25)
    assert not outcome.wrong, said(outcome)
    assert outcome.counts["cuts"] == CYCLES
    assert outcome.counts["acknowledged steps"] > 50
    assert outcome.counts["synced files"] + outcome.counts["folders"] > 10


def test_the_harness_sees_missing_syncs(templates):
    """The same with a driver whose every fsync only says that it was done."""
    programs = (Overwriting(), Foldering(), SixFiles())
    setting = replace(Setting.of(1), programs=programs, wrapper=NO_SYNCS)
    began = time.monotonic()
    for seed in range(1, 9, 2):
        outcome = templates.run(replace(setting, seed=seed), longest=0.25)
        if outcome.wrong:
            break
    assert any("gone" in one or "neither old nor new" in one for one in outcome.wrong), (
        f"no loss was found in {outcome.counts['cuts']} cuts: {said(outcome)}"
    )
    assert time.monotonic() - began < 60
