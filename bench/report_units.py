"""Figures as people read them. Pure."""

from typing import Final, Literal

NONE: Final = "-"
_MEBIBYTE: Final = 1 << 20


def ratio(value: float | None) -> str:
    """Three digits that count."""
    return NONE if value is None else _digits(value)


def span(low: float | None, high: float | None) -> str:
    """From the least to the greatest of the repetitions."""
    return NONE if low is None or high is None else f"{_digits(low)} to {_digits(high)}"


def percent(value: float | None) -> str:
    """Of a fraction."""
    return NONE if value is None else f"{value * 100:.0f} %"


def seconds(value: float | None) -> str:
    """With the unit that keeps it short."""
    if value is None:
        return NONE
    if not value:
        return "0 s"
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if value < limit:
            return f"{_digits(value * factor)} {unit}"
    return f"{_digits(value)} s"


def rate(value: float | None, unit: Literal["bytes", "operations"]) -> str:
    """Of bytes or operations a second."""
    if value is None:
        return NONE
    if unit == "bytes":
        return f"{_digits(value / _MEBIBYTE)} MiB/s"
    return f"{_digits(value)} /s"


def memory(value: int) -> str:
    """Of bytes."""
    return NONE if not value else f"{value / _MEBIBYTE:.0f} MiB"


def _digits(value: float) -> str:
    size = abs(value)
    if size >= 100:  # noqa: PLR2004 from here on no decimal counts
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"  # noqa: PLR2004 likewise
