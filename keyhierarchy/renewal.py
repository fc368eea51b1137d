"""When the leases of a policy are due: ahead of their end, with jitter, and with back-off. PURE.

Only numbers; whose clock it is, and what renewing means, is hierarchy.py's.
"""

from __future__ import annotations

import random

# Half a lease is left when it is renewed for the first time, to bridge an outage with.
_DUE = (0.45, 0.5)
_BACK_OFF_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
_BACK_OFF_JITTER = (0.8, 1.2)
_jitter = random.SystemRandom()


class Renewal:
    """The plan for one policy."""

    def __init__(self, lease_seconds: float, retry_seconds: float) -> None:
        self.lease_seconds = lease_seconds
        self.due = 0.0
        self.failures = 0
        self._retry_seconds = retry_seconds

    def succeeded(self, asked_at: float) -> None:
        """Plan the next renewal at about half of the lease."""
        self.failures = 0
        self.due = asked_at + self.lease_seconds * _jitter.uniform(*_DUE)

    def failed(self, now: float) -> None:
        """Plan the next try after an outage: 1, 2, 4, 8, then every 16 seconds, more or less."""
        pause = _BACK_OFF_SECONDS[min(self.failures, len(_BACK_OFF_SECONDS) - 1)]
        self.failures += 1
        self.due = now + pause * _jitter.uniform(*_BACK_OFF_JITTER)

    def refused(self, now: float) -> None:
        """Plan to look again after a denial: what was taken away may be given back."""
        self.failures = 0
        self.due = now + self._retry_seconds * _jitter.uniform(0.9, 1.0)

    def at_once(self, now: float) -> None:
        """Something has changed: do not wait."""
        self.due = min(self.due, now)
