"""The asynchronous half of the stand-in."""

import functools
from typing import Any


def recorded_by_proxy_async(test: Any) -> Any:
    @functools.wraps(test)
    async def run(*arguments: Any, **keywords: Any) -> Any:
        return await test(*arguments, **keywords)

    return run
