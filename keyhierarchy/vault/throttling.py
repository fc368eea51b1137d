"""How many requests a vault takes in ten seconds before it answers 429.

Each kind of request uses up its own share of one window, as the service's weighted sum does. Pure
apart from remembering the recent requests.
"""

from collections import deque

from keyhierarchy.vault.material import family_of
from keyhierarchy.vault.records import KeyVersion

WINDOW_SECONDS = 10.0
_CREATES_SOFTWARE = 20
_CREATES_HARDWARE = 10
_OTHER = 4000
_RSA_SOFTWARE = {2048: 4000, 3072: 1000, 4096: 500}
_RSA_HARDWARE = {2048: 2000, 3072: 500, 4096: 250}
_EC_SOFTWARE = 4000
_EC_HARDWARE = 2000

# A setting is `service` for the published limits, `off`, or one number for all kinds of request.
SERVICE = "service"
OFF = "off"


def check_setting(setting: str) -> str:
    if setting in (SERVICE, OFF) or (setting.isdecimal() and int(setting) > 0):
        return setting
    raise ValueError(f"{setting!r} is not a limit: use service, off or a number above 0")


def creation_limit(*, hardware: bool) -> int:
    return _CREATES_HARDWARE if hardware else _CREATES_SOFTWARE


def use_limit(version: KeyVersion | None) -> int:
    """Requests of this kind that fill one window; without a key, the limit of a plain request."""
    if version is None:
        return _OTHER
    if family_of(version.kty) == "RSA":
        limits = _RSA_HARDWARE if version.in_hardware else _RSA_SOFTWARE
        return limits.get(version.size or 0, min(limits.values()))
    return _EC_HARDWARE if version.in_hardware else _EC_SOFTWARE


class Throttle:
    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque()
        self._used = 0.0

    def admit(self, now: float, limit: int) -> bool:
        """False for a request too many; a refused request does not count, as in the service."""
        if self._recent and self._recent[-1][0] > now:
            # The clock was set back: what was counted by the old one means nothing now.
            self._recent.clear()
            self._used = 0.0
        while self._recent and self._recent[0][0] <= now - WINDOW_SECONDS:
            self._used -= self._recent.popleft()[1]
        share = 1 / limit
        # The tolerance keeps sums of fractions such as 1/20 from refusing the twentieth request.
        if self._used + share > 1 + 1e-9:
            return False
        self._recent.append((now, share))
        self._used += share
        return True
