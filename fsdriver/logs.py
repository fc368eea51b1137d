"""Where log lines go: to the terminal in the foreground, to a file in the background."""

import logging
import os
import sys
from typing import TextIO

import structlog


def configure(stream: TextIO | None = None) -> None:
    """One line an event: time, level, event, facts as key=value. Never key bytes or content."""
    out = stream or sys.stderr
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(
                key_order=["timestamp", "level", "event"], drop_missing=True
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


def open_file(place: str) -> TextIO:
    """For appending, private: paths of the mount appear in it in plaintext."""
    descriptor = os.open(
        place, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    return os.fdopen(descriptor, "a", buffering=1, encoding="utf-8", errors="backslashreplace")
