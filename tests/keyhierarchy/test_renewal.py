"""The plan for renewals: ahead of the end, backing off in an outage, looking again after a no."""

from __future__ import annotations

from keyhierarchy.renewal import Renewal


def test_half_a_lease_is_left_when_it_is_due():
    dues = set()
    for _ in range(50):
        plan = Renewal(3600, 60)
        plan.succeeded(1000)
        assert 1000 + 0.45 * 3600 <= plan.due <= 1000 + 0.5 * 3600
        dues.add(plan.due)
    assert len(dues) > 1  # not all hosts at the same second


def test_an_outage_is_backed_off_1_2_4_8_16():
    plan = Renewal(3600, 60)
    for pause in (1, 2, 4, 8, 16, 16, 16):
        plan.failed(5000)
        assert 5000 + 0.8 * pause <= plan.due <= 5000 + 1.2 * pause
    plan.succeeded(6000)
    plan.failed(7000)
    assert plan.due <= 7001.2


def test_after_a_denial_it_looks_again_with_the_probe_and_at_once_when_told():
    plan = Renewal(3600, 60)
    plan.refused(100)
    assert 154 <= plan.due <= 160
    plan.at_once(120)
    assert plan.due == 120
    plan.at_once(130)
    assert plan.due == 120
