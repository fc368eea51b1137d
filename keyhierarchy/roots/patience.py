"""How long a root key is waited for: one deadline for a call, tries within it, and a way out.

Knows nothing of vaults. The work is done on a thread of its own, because a peer that sends a byte
now and then resets every socket time-out; at the deadline the thread is left behind, and how many
may be left behind is bounded.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from keyhierarchy.errors import KeyHierarchyError, RootKeyUnavailable
from keyhierarchy.roots.vault_answers import RETRIED, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.2
FIRST_THROTTLED_PAUSE_SECONDS = 1.0  # the vault's own advice: 1, 2, 4, 8, 16
LONGEST_PAUSE_SECONDS = 16.0
MOST_LEFT_BEHIND = 4
_jitter = random.SystemRandom()


class Patience:
    """The deadline and the tries of calls to one root key. Several threads may call at once."""

    def __init__(
        self,
        key_id: str,
        *,
        deadline_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._key_id = key_id
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._sleep = sleep
        self._running = 0
        self._lock = threading.Lock()

    def call(self, doing: str, attempt: Callable[[float], T]) -> T:
        """Return what `attempt(seconds left)` returns, tried again where that may help.

        Raises a KeyHierarchyError; at the deadline RootKeyUnavailable, whatever is still going on.
        """
        with self._lock:
            if self._running >= MOST_LEFT_BEHIND:
                raise unavailable(
                    self._key_id,
                    doing,
                    "timeout",
                    f"{self._running} earlier requests still hang on this vault",
                )
            self._running += 1
        failed: list[RootKeyUnavailable] = []
        outcome: list[T] = []
        trouble: list[BaseException] = []
        done = threading.Event()
        end = self._clock() + self._deadline_seconds

        def work() -> None:
            try:
                outcome.append(self._try_until(end, attempt, failed))
            except BaseException as error:  # noqa: BLE001 - it is raised again where it is awaited
                trouble.append(error)
            finally:
                with self._lock:
                    self._running -= 1
                done.set()

        # A daemon, because a program that ends must not wait for a vault that hangs.
        threading.Thread(target=work, name="ckfs-root-key", daemon=True).start()
        if not done.wait(self._deadline_seconds):
            if failed:  # what it answered before tells more than that it is silent now
                raise failed[-1].again()
            raise unavailable(
                self._key_id,
                doing,
                "timeout",
                f"it did not answer in {self._deadline_seconds:g} s",
            )
        if trouble:
            error = trouble[0]
            raise error.again() if isinstance(error, KeyHierarchyError) else error
        return outcome[0]

    def _try_until(
        self, end: float, attempt: Callable[[float], T], failed: list[RootKeyUnavailable]
    ) -> T:
        tries = 0
        while True:
            left = end - self._clock()
            try:
                return attempt(max(left, 0.001))
            except RootKeyUnavailable as error:
                if error.cause not in RETRIED:
                    raise
                failed.append(error)
                pause = _pause(tries, error)
                if self._clock() + pause >= end:
                    raise
            self._sleep(pause)
            tries += 1


def _pause(tries: int, error: RootKeyUnavailable) -> float:
    first = FIRST_THROTTLED_PAUSE_SECONDS if error.cause == "throttled" else FIRST_PAUSE_SECONDS
    pause: float = min(first * 2.0**tries, LONGEST_PAUSE_SECONDS)
    # Downwards only for a guess of ours, upwards only for a wish of the vault's.
    if error.retry_after is not None:
        return error.retry_after * _jitter.uniform(1.0, 1.1)
    return pause * _jitter.uniform(0.5, 1.0)
