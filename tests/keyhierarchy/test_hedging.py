"""Two root keys asked for one secret: who is asked when, who wins, and when nobody is believed."""

from __future__ import annotations

import threading
import time

import pytest

from keyhierarchy.errors import RootKeyRefused, RootKeyUnavailable, WrappedKeyInvalid
from keyhierarchy.hedging import Hedge, Question
from tests.keyhierarchy.customer import until

KEY = b"k" * 32
DOWN, NO = RootKeyUnavailable("down", cause="unreachable"), RootKeyRefused("no", cause="firewall")
WRONG = WrappedKeyInvalid("wrong", cause="wrong-key")


class Root:
    def __init__(self, slot: str) -> None:
        self.slot = slot
        self.asked_at: list[float] = []
        self.error: Exception | None = None
        self.seconds = 0.0
        self.leave = threading.Event()
        self.leave.set()

    def ask(self) -> bytes:
        self.asked_at.append(time.monotonic())
        time.sleep(self.seconds)
        assert self.leave.wait(30)
        if self.error is not None:
            raise self.error
        return KEY

    @property
    def question(self) -> Question:
        return Question("p", self.slot, f"fake:{self.slot}", self.ask)


@pytest.fixture
def one():
    return Root("primary")


@pytest.fixture
def two():
    return Root("secondary")


def always_first(root: Root):
    return lambda question: int(question.slot != root.slot)


def questions(*roots: Root) -> list[Question]:
    return [root.question for root in roots]


def test_a_quick_first_answer_leaves_the_other_alone(one, two):
    heard = []
    hedge = Hedge(offset_seconds=0.2, observe=heard.append, rank=always_first(one))
    assert hedge.first(questions(one, two)) == KEY
    time.sleep(0.25)
    assert not two.asked_at
    assert [answer.question.slot for answer in heard] == ["primary"]
    assert "k" * 32 not in repr(heard[0])


def test_the_first_alternates(one, two):
    hedge = Hedge()
    for _ in range(6):
        hedge.first(questions(one, two))
    assert len(one.asked_at) == len(two.asked_at) == 3


def test_who_failed_last_comes_last(one, two):
    hedge = Hedge(rank=always_first(two))
    for _ in range(4):
        hedge.first(questions(one, two))
    assert not one.asked_at


def test_a_slow_first_is_overtaken_after_the_offset_and_its_answer_still_heard(one, two):
    heard = []
    one.leave.clear()
    hedge = Hedge(offset_seconds=0.05, observe=heard.append, rank=always_first(one))
    assert hedge.first(questions(one, two)) == KEY
    assert two.asked_at[0] - one.asked_at[0] >= 0.05
    assert len(heard) == 1
    one.leave.set()
    until(lambda: len(heard) == 2)
    assert heard[1].question.slot == "primary"
    assert heard[1].error is None


@pytest.mark.parametrize("error", [DOWN, NO])
def test_when_the_first_fails_the_second_is_asked_at_once(one, two, error):
    one.error = error
    started = time.monotonic()
    assert Hedge(offset_seconds=5, rank=always_first(one)).first(questions(one, two)) == KEY
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (DOWN, NO, RootKeyUnavailable),
        (NO, DOWN, RootKeyUnavailable),
        (NO, NO, RootKeyRefused),
        (DOWN, DOWN, RootKeyUnavailable),
    ],
)
def test_when_both_fail_an_outage_counts_before_a_denial(one, two, first, second, kind):
    one.error, two.error = first, second
    with pytest.raises(kind) as caught:
        Hedge(offset_seconds=0.01).first(questions(one, two))
    assert "primary:" in str(caught.value)
    assert "secondary:" in str(caught.value)


def test_a_wrong_answer_ends_it_before_the_other_is_believed(one, two):
    one.error = WRONG
    with pytest.raises(WrappedKeyInvalid):
        Hedge(offset_seconds=5, rank=always_first(one)).first(questions(one, two))
    assert not two.asked_at


def test_who_lied_must_first_tell_the_truth(one, two):
    doubts = {"primary"}
    hedge = Hedge(doubted=lambda question: question.slot in doubts, deadline_seconds=0.2)
    one.error = WRONG
    with pytest.raises(WrappedKeyInvalid):
        hedge.first(questions(one, two))
    one.error = DOWN
    with pytest.raises(RootKeyUnavailable):
        hedge.first(questions(one, two))
    one.error = None
    assert hedge.first(questions(one, two)) == KEY


def test_both_hang_and_the_deadline_ends_it(one, two):
    one.leave.clear()
    two.leave.clear()
    started = time.monotonic()
    with pytest.raises(RootKeyUnavailable, match=r"did not answer in 0.1 s") as caught:
        Hedge(offset_seconds=0.01, deadline_seconds=0.1).first(questions(one, two))
    assert time.monotonic() - started < 2
    assert caught.value.cause == "timeout"
    one.leave.set()
    two.leave.set()


def test_all_are_asked_at_once_and_silence_is_an_outage(one, two):
    one.leave.clear()
    two.error = NO
    answers = Hedge(deadline_seconds=0.1).all(questions(one, two))
    assert {(a.question.slot, a.error.cause) for a in answers} == {
        ("primary", "timeout"),
        ("secondary", "firewall"),
    }
    one.leave.set()
    assert Hedge().all([]) == []


def test_a_defect_is_an_outage_and_says_so(one, two):
    one.error = two.error = ZeroDivisionError("oops")
    with pytest.raises(RootKeyUnavailable, match="ZeroDivisionError"):
        Hedge().first(questions(one, two))
