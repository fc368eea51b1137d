"""What a figure depends on beside the filesystems: the machine, and the commit."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from bench.figures import Machine

_REPOSITORY = Path(__file__).resolve().parent.parent


def machine() -> Machine:
    """This one, now."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        load=round(os.getloadavg()[0], 2),
        python=platform.python_version(),
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """Short; `+` behind it if tracked files differ; `unknown` outside a repository."""
    short = _git("rev-parse", "--short", "HEAD")
    if not short:
        return "unknown"
    return short + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", _REPOSITORY, *words], check=False, capture_output=True, text=True
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
