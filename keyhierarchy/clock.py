"""The wall clock as the documents write it: UTC, RFC 3339, milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp() -> str:
    """Return now, as in 2026-11-21T21:28:00.123Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
