"""Ask several root keys for one secret: one first, the next a little later, the first answer wins.

Knows neither keys nor vaults: a question is something to call, an answer its result or its error.
Who was asked and answers too late still tells the observer, so that its health is known. One that
answers wrongly ends it: the others are not believed then either.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from keyhierarchy.errors import KeyHierarchyError, RootKeyUnavailable, WrappedKeyInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

OFFSET_SECONDS = 0.25
DEADLINE_SECONDS = 15.0


class Question(NamedTuple):
    """One root key that could open it; what `ask` returns was checked, and may be used."""

    policy_id: str
    slot: str
    key_id: str
    ask: Callable[[], bytes]


class Answer:
    """What one root key said. Holds a key, so it prints without it."""

    __slots__ = ("error", "opened", "question", "seconds")

    def __init__(
        self,
        question: Question,
        opened: bytes | None,
        error: KeyHierarchyError | None,
        seconds: float,
    ) -> None:
        self.question = question
        self.opened = opened
        self.error = error
        self.seconds = seconds

    def __repr__(self) -> str:
        outcome = "opened" if self.error is None else type(self.error).__name__
        return f"<Answer of {self.question.key_id}: {outcome} in {self.seconds:.3f} s>"

    def __reduce__(self) -> str:
        raise TypeError("an Answer holds a key and is not pickled")


class Hedge:
    """How to ask. `observe` hears every answer, from whatever thread; `rank` says who comes last.

    `doubted` tells of a root key that has answered wrongly before: it must have answered rightly
    before anybody else is believed.
    """

    def __init__(
        self,
        *,
        offset_seconds: float = OFFSET_SECONDS,
        deadline_seconds: float = DEADLINE_SECONDS,
        observe: Callable[[Answer], None] = lambda _answer: None,
        rank: Callable[[Question], int] = lambda _question: 0,
        doubted: Callable[[Question], bool] = lambda _question: False,
    ) -> None:
        self._offset = offset_seconds
        self._deadline = deadline_seconds
        self._observe = observe
        self._rank = rank
        self._doubted = doubted
        # Which of two equals comes first alternates, so that both are known to work.
        self._turn = itertools.count(secrets.randbelow(2))

    def first(self, questions: Sequence[Question]) -> bytes:
        """Return the first answer. Raises what kept the root keys from giving one."""
        if len(questions) == 1:
            answer = self._ask(questions[0])
            if answer.opened is None:
                raise trouble_of([answer])
            return answer.opened
        if any(self._doubted(question) for question in questions):
            return self._unanimous(questions)
        answers: SimpleQueue[Answer] = SimpleQueue()
        waiting = deque(self._ordered(questions))
        bad: list[Answer] = []
        asked = 0
        now = time.monotonic()
        end, next_start = now + self._deadline, now
        while now < end:
            if waiting and (now >= next_start or asked == len(bad)):
                self._start(waiting.popleft(), answers)
                asked += 1
                next_start = now + self._offset
            until = min(end, next_start) if waiting else end
            try:
                answer = answers.get(timeout=max(until - now, 0.001))
            except Empty:
                pass
            else:
                if answer.opened is not None:
                    return answer.opened
                bad.append(answer)
                if len(bad) == len(questions) or isinstance(answer.error, WrappedKeyInvalid):
                    break
            now = time.monotonic()
        raise trouble_of([*bad, *self._silent(questions, bad)])

    def all(self, questions: Sequence[Question]) -> list[Answer]:
        """Ask all at once and return what each said; who is silent at the deadline is an outage."""
        answers: SimpleQueue[Answer] = SimpleQueue()
        end = time.monotonic() + self._deadline
        for question in questions:
            self._start(question, answers)
        heard: list[Answer] = []
        while len(heard) < len(questions):
            try:
                heard.append(answers.get(timeout=max(end - time.monotonic(), 0.001)))
            except Empty:
                break
        return [*heard, *self._silent(questions, heard)]

    def _unanimous(self, questions: Sequence[Question]) -> bytes:
        answers = self.all(questions)
        bad = [
            answer
            for answer in answers
            if isinstance(answer.error, WrappedKeyInvalid)
            or (answer.opened is None and self._doubted(answer.question))
        ]
        opened = next((one.opened for one in answers if one.opened is not None), None)
        if bad or opened is None:
            raise trouble_of(bad or answers)
        return opened

    def _ordered(self, questions: Sequence[Question]) -> list[Question]:
        turn = next(self._turn) % len(questions)
        turned = [*questions[turn:], *questions[:turn]]
        return sorted(turned, key=self._rank)

    def _start(self, question: Question, answers: SimpleQueue[Answer]) -> None:
        # A daemon, because a program that ends must not wait for a root key that hangs.
        threading.Thread(
            target=lambda: answers.put(self._ask(question)), name="ckfs-hedge", daemon=True
        ).start()

    def _ask(self, question: Question) -> Answer:
        started = time.monotonic()
        opened, error = None, None
        try:
            opened = question.ask()
        except KeyHierarchyError as trouble:
            error = trouble.again()
        except Exception as defect:  # noqa: BLE001 - on this thread nobody else would hear of it
            error = RootKeyUnavailable(
                f"asking {question.key_id} failed unexpectedly: {type(defect).__name__}: {defect}; "
                "please report it",
                key_id=question.key_id,
                cause="unexpected",
            )
        answer = Answer(question, opened, error, time.monotonic() - started)
        self._observe(answer)
        return answer

    def _silent(self, questions: Sequence[Question], heard: Sequence[Answer]) -> list[Answer]:
        known = {id(answer.question) for answer in heard}
        return [
            Answer(question, None, self._no_answer(question), self._deadline)
            for question in questions
            if id(question) not in known
        ]

    def _no_answer(self, question: Question) -> RootKeyUnavailable:
        return RootKeyUnavailable(
            f"{question.key_id} did not answer in {self._deadline:g} s",
            key_id=question.key_id,
            cause="timeout",
        )


def trouble_of(answers: Sequence[Answer]) -> KeyHierarchyError:
    """Return one error for all: forgery before outage before denial; its text tells of each.

    One root key that may answer later keeps the hope alive, unless one has answered wrongly.
    """
    errors = [answer.error for answer in answers if answer.error is not None]
    worst = next(
        (
            error
            for kind in (WrappedKeyInvalid, RootKeyUnavailable)
            for error in errors
            if isinstance(error, kind)
        ),
        errors[0],
    )
    if len(errors) == 1:
        return worst
    told = worst.again()
    told.message = "; and ".join(
        f"{answer.question.slot}: {answer.error}" for answer in answers if answer.error is not None
    )
    told.args = (told.message,)
    return told
