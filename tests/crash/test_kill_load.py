"""kill -9 under load: all that was acknowledged is there, synced or not; nothing needs repair."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.crash.power.cycle import Setting

pytestmark = [pytest.mark.mounted, pytest.mark.crash]


@pytest.mark.parametrize(("seed", "kills"), [(1000, 3), (1002, 2)])
def test_killed_under_load(templates, seed, kills):
    setting = replace(Setting.of(seed), kills=True, state_is_cut=False)
    outcome = templates.run(setting, cycles=kills)
    assert not outcome.wrong, "\n".join(outcome.wrong)
    assert outcome.counts["cuts"] == kills
    assert outcome.counts["acknowledged steps"] > 20 * kills
