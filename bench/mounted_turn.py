"""One turn: one system performs one group once, and what each row took is kept."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import Sample
from bench.mounted_place import BOUND, drop_caches
from bench.peers.system import System, cpu_seconds, first_line, peak_memory
from bench.workloads.groups import Sizes

_CLIENT = Path(__file__).parent / "workloads" / "client.py"


class WorkloadFailed(Exception):
    """The client said that something failed, or took too long."""


class ContentsWrong(WorkloadFailed):
    """What was read back is not what was written."""


@dataclass
class Turn:
    """See `bench.workloads.groups.Turn`. `samples` by row: only those rows are kept."""

    system: System
    sizes: Sizes
    material: Path
    environment: dict[str, str]
    samples: dict[str, Sample]
    verify: bool
    time_cap: float
    """Seconds for one workload; one that takes longer is stopped and has failed."""
    on_disk: bool
    at: str = ""
    """The row that is being measured."""

    @property
    def files(self) -> Path:
        return self.system.files

    def timed(self, row: str, task: str, *, needed: bool = False, **options: Any) -> None:
        sample = self.samples.get(row)
        if sample is None:
            if needed:
                self.untimed(task, **options)
            return
        self.at = row
        before = cpu_seconds(pids := self.system.processes())
        told = self._client(task, options)
        self.system.settle()
        # What it does behind its answer is its work, too.
        driver = cpu_seconds(pids) - before
        sample.seconds.append(told["seconds"])
        sample.client_cpu.append(told["cpu"])
        sample.driver_cpu.append(max(0.0, driver))
        sample.peak_memory = max(sample.peak_memory, peak_memory(pids))

    def untimed(self, task: str, **options: Any) -> None:
        self._client(task, options)

    def again(self, row: str | None = None) -> None:
        self.system.unmount()
        if self.on_disk:
            drop_caches(self.system.room.place)
        began = time.perf_counter()
        self.system.mount()
        os.listdir(self.system.files)
        sample = self.samples.get(row or "")
        if sample is not None:
            sample.seconds.append(time.perf_counter() - began)
            sample.client_cpu.append(0.0)
            sample.driver_cpu.append(cpu_seconds(pids := self.system.processes()))
            sample.peak_memory = max(sample.peak_memory, peak_memory(pids))

    def _client(self, task: str, options: dict[str, Any]) -> dict[str, float]:
        words = [*BOUND, sys.executable, "-I", "-S", str(_CLIENT), task, json.dumps(options)]
        running = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            start_new_session=True,
        )
        try:
            said, wrong = running.communicate(timeout=self.time_cap)
        except subprocess.TimeoutExpired:
            stop(running)
            raise WorkloadFailed(f"stopped: it took over {self.time_cap:.0f} s") from None
        except BaseException:
            stop(running)
            raise
        if running.returncode:
            kind = ContentsWrong if task.startswith(("verify", "compare")) else WorkloadFailed
            raise kind(first_line("\n".join(reversed(wrong.splitlines()))))
        told: dict[str, float] = json.loads(said.splitlines()[-1])
        return told


def stop(running: "subprocess.Popen[str]") -> None:
    """A client and what it started; one that hangs in the kernel goes when its mount does."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    end = time.monotonic() + 2
    while running.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    for pipe in (running.stdout, running.stderr):
        if pipe is not None:
            pipe.close()
