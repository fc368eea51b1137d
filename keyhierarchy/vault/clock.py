"""The server's idea of now. One object for all vaults, so that a test can set the clock askew.

Not for measuring how long something took: that is `time.monotonic`.
"""

import time


class Clock:
    def __init__(self) -> None:
        self.offset_seconds = 0.0

    def now(self) -> float:
        """Unix seconds, shifted by the offset that the administration endpoint has set."""
        return time.time() + self.offset_seconds
