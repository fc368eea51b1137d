"""For the whole suite: its options, and which tests stay together when several run at a time."""

from __future__ import annotations

import os

import pytest

from fsdriver.mountoptions import TRANSPORTS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--transports",
        default=",".join(TRANSPORTS),
        help="through which transports tests/mounted goes (default: %(default)s)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What cannot be mounted here is skipped.

    And in a worker of pytest-xdist: what shares a module's fixture runs in one; the long ones
    first. A long one that begins last is one that all other workers wait for.
    """
    if not os.path.exists("/dev/fuse") or os.geteuid() != 0:
        reason = "/dev/fuse is missing" if os.geteuid() == 0 else "mounting a test image takes root"
        for item in items:
            if item.get_closest_marker("mounted"):
                item.add_marker(pytest.mark.skip(reason=reason))
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        if isinstance(item, pytest.Function) and _shares(item):
            transport = getattr(item, "callspec", None) and item.callspec.params.get("transport")
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem} {transport or ''}".strip()))
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def _shares(item: pytest.Function) -> bool:
    found = item._fixtureinfo.name2fixturedefs.values()
    return any(one.scope == "module" for definitions in found for one in definitions)
