"""One deadline for a call, tries within it, and no more than so many threads left behind."""

from __future__ import annotations

import threading
import time

import pytest

from keyhierarchy.errors import RootKeyRefused, RootKeyUnavailable
from keyhierarchy.roots import patience
from keyhierarchy.roots.patience import Patience
from tests.keyhierarchy.fakes import FakeClock


class Time(FakeClock):
    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def told():
    return Time()


@pytest.fixture
def patient(told):
    return Patience("fake:1", deadline_seconds=10, clock=told, sleep=told.sleep)


def failing(times, cause, **facts):
    left = [times]

    def attempt(_seconds: float) -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise RootKeyUnavailable("no", cause=cause, **facts)
        return "done"

    return attempt


@pytest.mark.parametrize("cause", ["unreachable", "timeout", "throttled", "server-error"])
def test_what_may_pass_is_tried_again(patient, told, cause):
    assert patient.call("unwrap", failing(2, cause)) == "done"
    first = 1.0 if cause == "throttled" else 0.2
    assert first / 2 <= told.pauses[0] <= first
    assert first <= told.pauses[1] <= 2 * first


@pytest.mark.parametrize("cause", ["untrusted-certificate", "no-token", "not-a-vault"])
def test_what_does_not_pass_is_not_tried_again(patient, told, cause):
    with pytest.raises(RootKeyUnavailable):
        patient.call("unwrap", failing(1, cause))
    assert told.pauses == []


def test_a_denial_is_not_tried_again(patient, told):
    def attempt(_seconds):
        raise RootKeyRefused("no", cause="key-disabled")

    with pytest.raises(RootKeyRefused) as caught:
        patient.call("unwrap", attempt)
    assert caught.value.cause == "key-disabled"
    assert told.pauses == []


def test_it_ends_before_the_deadline_and_tells_what_was_last(patient, told):
    with pytest.raises(RootKeyUnavailable, match="no") as caught:
        patient.call("unwrap", failing(1000, "server-error"))
    assert caught.value.cause == "server-error"
    assert sum(told.pauses) < 10
    assert len(told.pauses) <= 12


def test_retry_after_is_honoured_within_the_deadline(patient, told):
    assert patient.call("unwrap", failing(1, "throttled", retry_after=4.0)) == "done"
    assert 4.0 <= told.pauses[0] <= 4.4
    with pytest.raises(RootKeyUnavailable) as caught:
        patient.call("unwrap", failing(1, "throttled", retry_after=30.0))
    assert caught.value.retry_after == 30.0
    assert len(told.pauses) == 1


def test_a_call_that_hangs_is_left_behind_and_only_so_many():
    patient = Patience("fake:1", deadline_seconds=0.05)
    leave = threading.Event()
    for _ in range(patience.MOST_LEFT_BEHIND):
        started = time.monotonic()
        with pytest.raises(RootKeyUnavailable, match=r"did not answer in 0.05 s") as caught:
            patient.call("unwrap", lambda _left: leave.wait(30))
        assert time.monotonic() - started < 2
        assert caught.value.cause == "timeout"
    with pytest.raises(RootKeyUnavailable, match="earlier requests still hang"):
        patient.call("unwrap", lambda _left: "quick")
    leave.set()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            assert patient.call("unwrap", lambda _left: "quick") == "quick"
        except RootKeyUnavailable:
            time.sleep(0.01)
        else:
            return
    pytest.fail("it never worked again")


def test_at_the_deadline_the_last_answer_tells_more_than_silence():
    patient = Patience("fake:1", deadline_seconds=0.5)
    leave = threading.Event()
    tries = []

    def attempt(_left: float) -> bool:
        tries.append(1)
        if len(tries) == 1:
            raise RootKeyUnavailable("503", cause="server-error")
        return leave.wait(30)

    with pytest.raises(RootKeyUnavailable) as caught:
        patient.call("unwrap", attempt)
    assert caught.value.cause == "server-error"
    leave.set()


def test_an_error_of_ours_comes_through(patient):
    with pytest.raises(ZeroDivisionError):
        patient.call("unwrap", lambda _left: 1 / 0)
