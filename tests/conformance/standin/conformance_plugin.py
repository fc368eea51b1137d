"""The pytest plugin of a conformance run: leaves tests out by name with a reason, and passes time.

The tests sleep a lot, to spare the live service. Here a sleep sets the vault's clock ahead by as
much instead, so that dates differ and deletions complete as the tests expect, without the waiting.
"""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from keyhierarchy.vault.admin_client import AdminClient
from keyhierarchy.vault.resolve import install

# Shorter sleeps are somebody's way to yield, not a test waiting for the service.
_SHORTEST_WAIT_SECONDS = 0.2
_real_sleep = time.sleep
_real_async_sleep = asyncio.sleep
_administration = AdminClient(Path(os.environ["CONFORMANCE_SITE"]))


def _sleep(seconds: float) -> None:
    if seconds < _SHORTEST_WAIT_SECONDS:
        _real_sleep(seconds)
    else:
        _administration.advance_clock(seconds)


async def _async_sleep(seconds: float, result: Any = None) -> Any:
    if seconds < _SHORTEST_WAIT_SECONDS:
        return await _real_async_sleep(seconds, result)
    _administration.advance_clock(seconds)
    return await _real_async_sleep(0, result)


def pytest_configure(config: pytest.Config) -> None:
    install()
    time.sleep = _sleep
    asyncio.sleep = _async_sleep
    config.addinivalue_line("markers", "playback_test_only: needs Microsoft's recordings")


@pytest.fixture(scope="session")
def test_proxy() -> None:
    """The tests ask for the recording proxy; there is none."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    table: dict[str, str] = json.loads(os.environ["CONFORMANCE_LEFT_OUT"])
    left_out: list[tuple[pytest.Item, str]] = []
    for item in items:
        reason = next((why for part, why in table.items() if part in item.nodeid), "")
        if item.get_closest_marker("playback_test_only"):
            reason = "marked by its authors as not for a live service"
        if reason:
            left_out.append((item, reason))
    gone = {item for item, _ in left_out}
    items[:] = [item for item in items if item not in gone]
    config.hook.pytest_deselected(items=[item for item, _ in left_out])
    lines = [f"{item.nodeid}\t{reason}" for item, reason in left_out]
    Path(os.environ["CONFORMANCE_LEFT_OUT_FILE"]).write_text("\n".join(lines))
