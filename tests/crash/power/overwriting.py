"""Files changed in place: overwritten, appended, cut, rewritten, mapped; fsynced now and then."""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.crash.power.content import written
from tests.crash.power.filemodel import FileModel
from tests.crash.power.program import Found, Rules, Verdict

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.crash.power.ledger import Ledger, Step

OLD = {"old-0": 300_000, "old-1": 262_144, "old-2": 70_001}
_LARGEST = 600_000
_ALIGNED = 65_536
_VERBS = ("write", "write", "write", "append", "large", "mapped", "truncate", "rewrite", "dsync")


def whole(count: int, data: bytes) -> None:
    """A driver killed between the parts of one write(2) makes it a short one."""
    if count != len(data):
        raise OSError(errno.EIO, f"{count} of {len(data)} bytes were taken")


class Overwriting:
    """A write of more than a chunk is laid on chunks, so that the kernel cuts it between them."""

    name = "overwriting"

    def prepare(self, place: Path) -> None:
        for name, size in OLD.items():
            (place / name).write_bytes(written(name, 0, 0, size))

    def run(self, place: Path, ledger: Ledger, order: random.Random) -> None:
        opened: dict[str, int] = {}
        version = 0
        while True:
            version += 1
            name = order.choice((*OLD, "new-0", "new-1"))
            path = place / name
            if name not in opened:
                with ledger.step("open", name):
                    opened[name] = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            file = opened[name]
            size = os.fstat(file).st_size
            self._step(ledger, order, file, path, size, version)
            chance = order.random()
            if chance < 0.4:
                with ledger.step("fsync", name):
                    (os.fsync if chance < 0.3 else os.fdatasync)(file)
            elif chance > 0.9:
                os.close(opened.pop(name))

    def _step(
        self,
        ledger: Ledger,
        order: random.Random,
        file: int,
        path: Path,
        size: int,
        version: int,
    ) -> None:
        name = path.name
        verb = order.choice(_VERBS)
        if verb == "append" or (verb in ("write", "dsync", "mapped") and not size):
            verb, at = "write", size
        elif verb == "large":
            at = order.randrange(0, size + 1, _ALIGNED)
        else:
            at = order.randrange(size + size // 8 + 1)
        length = order.choice((10, 64, 1000, 4096, 9000))
        if verb == "large":
            length = order.randrange(1, 5) * _ALIGNED
        if at + length > _LARGEST or (verb == "truncate" and order.random() < 0.2):
            verb, at = "truncate", order.choice((0, size // 2, size + 5000, 4096))
        data = written(name, version, at, length)
        if verb in ("write", "large"):
            with ledger.step("write", name, at, length, version):
                whole(os.pwrite(file, data, at), data)
        elif verb == "dsync":
            with ledger.step("dsync", name, at, length, version):
                direct = os.open(path, os.O_WRONLY | os.O_DSYNC)
                try:
                    whole(os.pwrite(direct, data, at), data)
                finally:
                    os.close(direct)
        elif verb == "mapped":
            at = order.randrange(size)
            length = min(length, size - at, mmap.PAGESIZE - at % mmap.PAGESIZE)
            with ledger.step("mapped", name, at, length, version):
                with mmap.mmap(file, size) as pages:
                    pages[at : at + length] = written(name, version, at, length)
                    pages.flush()
        elif verb == "truncate":
            with ledger.step("truncate", name, at):
                os.ftruncate(file, at)
        else:
            with ledger.step("cut", name):
                again = os.open(path, os.O_WRONLY | os.O_TRUNC)
            try:
                data = written(name, version, 0, length)
                with ledger.step("write", name, 0, length, version):
                    whole(os.write(again, data), data)
            finally:
                with suppress(OSError):
                    os.close(again)

    def judge(self, steps: list[Step], found: Found, rules: Rules) -> Verdict:
        models = {
            name: FileModel(rules.chunk_size, written(name, 0, 0, size))
            for name, size in OLD.items()
        }
        verdict = Verdict()
        for step in steps:
            name = step.facts[0]
            model = models.setdefault(name, FileModel(rules.chunk_size, exists=False))
            if step.verb in ("write", "dsync", "mapped"):
                at, length, version = step.facts[1:]
                write = model.write if step.done else model.write_part
                write(at, written(name, version, at, length))
            elif step.verb in ("truncate", "cut"):
                model.truncate(step.facts[1] if step.verb == "truncate" else 0)
            if step.done and (rules.every_step_is_durable or step.verb == "fsync"):
                model.settle()
                verdict.counts["acknowledged syncs"] += step.verb == "fsync"
            elif step.done and step.verb in ("dsync", "mapped"):
                model.settle_range(step.facts[1], step.facts[2])
                verdict.counts["acknowledged syncs"] += 1
        for name, model in models.items():
            verdict.wrong += [f"{name}: {one}" for one in model.judge(found.files.get(name))]
            verdict.counts["synced files"] += model.must_exist
            verdict.counts["chunks"] += -(-len(model.now) // rules.chunk_size)
        return verdict
