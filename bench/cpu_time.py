"""CPU time of a piece of work in this process, with the garbage of others out of the way."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def settled() -> Iterator[None]:
    """What is there now, all modules above all, is not looked through at every collection."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def cpu_seconds(work: Callable[[], None]) -> float:
    """User and system, of all threads; collections that the work itself sets off are in it."""
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start
