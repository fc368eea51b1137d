"""`ckfs` by the dozen: the real command line in a fork of a process that has imported it already.

Half of a second of each `ckfs mount` goes into imports. As a program, this file reads one command a
line, JSON, runs it in a fork of itself, and answers with its exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsdriver import control
from tests.mounted.driving import Driven, is_running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Commander:
    """One such process; for one thread."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments: list[str], environment: dict[str, str], said: Path) -> int:
        """The exit code; `said` gets both its outputs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"arguments": arguments, "environment": environment, "said": str(said)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@dataclass
class QuickDriven(Driven):
    """A store whose commands go to a commander."""

    commander: Callable[[], Commander] | None = None
    _pid: int = 0

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        if self.commander is None:
            return super().run(*arguments, check=check)
        said = self.folder / "said"
        code = self.commander().run([*map(str, arguments)], self.environment, said)
        done = subprocess.CompletedProcess(arguments, code, said.read_text(), "")
        if check and code:
            raise AssertionError(f"ckfs {arguments} ended with {code}: {done.stdout}")
        if arguments[0] == "mount" and not code:
            self._pid = json.loads(os.getxattr(self.mountpoint, control.STATUS))["pid"]
        return done

    def pids(self) -> list[int]:
        if self.commander is None:
            return super().pids()
        return [self._pid] if self._pid and is_running(self._pid) else []


def _serve() -> None:
    from fsdriver import cli, mount, mountoptions, quarantine, scrub  # noqa: F401, PLC0415

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _become(request, cli.main)
        _pid, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(request: dict[str, Any], main: Callable[[], None]) -> None:
    code = 1
    try:
        said = os.open(request["said"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, number in ((null, 0), (said, 1), (said, 2)):
            os.dup2(descriptor, number)
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = ["ckfs", *request["arguments"]]
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
