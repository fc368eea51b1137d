"""What is copied in: a tree of files and a git repository, from a seed, the same in every run."""

import os
import random
import subprocess
from pathlib import Path

_SEED = 20261122
_WORDS = (  # noqa: SIM905 as one reads it
    "report budget minutes plan invoice photo draft contract notes scan offer summary letter "
    "travel team project review list form slides"
).split()
_SUFFIXES = ("docx", "xlsx", "pptx", "pdf", "jpg", "txt", "csv", "png", "md", "json")
_LARGEST = 8 << 20


def make_tree(top: Path, *, files: int, size: int) -> None:
    """About `size` bytes: most files of a few KiB, few of MiB, in nested folders."""
    draw = random.Random(_SEED)  # noqa: S311 a workload, no secret
    folders = [top]
    top.mkdir()
    while len(folders) < max(2, files // 20):
        parent = draw.choice(folders[-60:])
        if len(parent.relative_to(top).parts) < 5:  # noqa: PLR2004 levels of folders
            folders.append(parent / f"{draw.choice(_WORDS)} {len(folders)}")
            folders[-1].mkdir()
    # Log-normal, as sizes in home folders are; stretched so that they add up.
    drawn = [min(draw.lognormvariate(9.2, 1.7), _LARGEST) for _ in range(files)]
    stretch = size / sum(drawn)
    for number, length in enumerate(drawn):
        name = f"{draw.choice(_WORDS)} {draw.choice(_WORDS)} {number}.{draw.choice(_SUFFIXES)}"
        path = draw.choice(folders) / name
        path.write_bytes(draw.randbytes(int(length * stretch)))
        os.utime(path, ns=(when := 10**9 * (1_700_000_000 + number), when))


def make_repository(place: Path, *, files: int, environment: dict[str, str]) -> None:
    """`place` is a bare repository with four commits of source-like text."""
    draw = random.Random(_SEED)  # noqa: S311
    work = place.with_name(place.name + "-work")

    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-C", work, *words], check=True, capture_output=True, env=environment
        )

    def write(number: int) -> None:
        path = work / f"package{number % 23}" / f"part{number % 7}" / f"module{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (
            f"{draw.choice(_WORDS)}_{draw.randrange(999)} = {draw.choice(_WORDS)}({number})"
            for _ in range(draw.randrange(20, 300))
        )
        path.write_text("\n".join(lines) + "\n")

    work.mkdir()
    git("init", "--quiet", "--initial-branch=main")
    for number in range(files):
        write(number)
    for commit in range(4):
        for number in draw.sample(range(files), files // 10):
            write(number)
        git("add", "--all")
        git("commit", "--quiet", "--message", f"commit {commit}")
    git("clone", "--quiet", "--bare", ".", str(place))


def git_environment(home: Path) -> dict[str, str]:
    """So that nobody's configuration decides a figure."""
    who = {"NAME": "Bench", "EMAIL": "bench@example.org", "DATE": "2026-01-01T00:00:00+00:00"}
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        **{
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in who.items()
        },
    }
