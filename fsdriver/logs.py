"""Log lines, to the terminal in the foreground, to a file in the background.

A mount has to answer within a second, and the libraries that make log lines take a tenth of that
to load: this room needs next to nothing.
"""

import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import Final, TextIO

_ESCAPED: Final = str.maketrans(
    {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    | {chr(code): f"\\x{code:02x}" for code in (*range(9), 11, 12, *range(14, 32))}
    | {chr(code): f"\\x{code:02x}" for code in range(127, 160)}
)
_lock: Final = threading.Lock()
_stream: TextIO | None = None
"""None: standard error, as it is when a line is written."""


def configure(stream: TextIO | None = None) -> TextIO | None:
    """Where lines go from here on; None: to standard error. Returns what it was before."""
    global _stream
    before, _stream = _stream, stream
    return before


def open_file(place: str) -> TextIO:
    """For appending, private: paths of the mount appear in it in plaintext."""
    descriptor = os.open(
        place, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    return os.fdopen(descriptor, "a", buffering=1, encoding="utf-8", errors="backslashreplace")


def info(event: str, **facts: object) -> None:
    """Something that was asked for."""
    _write("info", event, facts)


def warning(event: str, **facts: object) -> None:
    """Something that whoever runs the mount should know."""
    _write("warning", event, facts)


def error(event: str, failure: BaseException | None = None, /, **facts: object) -> None:
    """Something that went wrong; of a `failure` that nobody foresaw the traceback is kept."""
    if failure is not None:
        # Never with the values of variables: a key may be among them.
        facts["exception"] = "".join(traceback.format_exception(failure)).rstrip("\n")
    _write("error", event, facts)


def _write(level: str, event: str, facts: dict[str, object]) -> None:
    """One line an event, in logfmt: time, level, event, facts. Never key bytes or content."""
    now = time.time_ns()
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
    said = {"timestamp": f"{at}.{now // 1000 % 10**6:06}Z", "level": level, "event": event, **facts}
    line = " ".join(f"{name}={_quoted(str(value))}" for name, value in said.items())
    stream = _stream or sys.stderr
    # A log whose disk is full must not become the failure of a program's file.
    with _lock, suppress(OSError, ValueError):
        stream.write(line + "\n")
        stream.flush()


def _quoted(value: str) -> str:
    """A control character in a name must not end a line, nor reach a terminal."""
    escaped = value.translate(_ESCAPED)
    return f'"{escaped}"' if escaped != value or " " in value or "=" in value else value
