"""What the demonstrations share: commands shown as a user types them, and nothing left behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

BIN = Path(sys.executable).parent
_OURS = {
    "ckfs": "fsdriver.cli",
    "ckfs-keys": "keyhierarchy.cli",
    "ckfs-vault": "keyhierarchy.vault.cli",
}


def show(text: str) -> None:
    """A heading."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n## {text}", flush=True)


def run(*command: str, quiet: bool = False, expect: int = 0, lines: int = 0) -> str:
    """Show a command, run it, show what it says; ends the demonstration if it fails."""
    print(f"$ {' '.join(command)}", flush=True)
    # A group of its own, so that an interrupted rsync goes with all its processes.
    with subprocess.Popen(
        _program(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as running:
        try:
            said, _errors = running.communicate()
        except BaseException:
            # A mount that is under way is let finish, so that there is something to undo.
            if command[0] not in _OURS:
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            raise
    if running.returncode != expect:
        raise SystemExit(
            f"demo: `{' '.join(command)}` ended with {running.returncode}, not {expect}:\n{said}"
        )
    if not quiet and said:
        head(said, lines or said.count("\n") + 1)
    return said


def _program(command: tuple[str, ...]) -> tuple[str, ...]:
    """Our programs run so that NAME.vault.test resolves in them, without a DNS to set up."""
    module = _OURS.get(command[0])
    if module is None:
        return command
    return (sys.executable, "-m", "keyhierarchy.vault.resolve", module, *command[1:])


def head(text: str, lines: int) -> None:
    """The first lines of a long output."""
    shown = text.splitlines()
    print("\n".join(shown[:lines]))
    if len(shown) > lines:
        print(f"... and {len(shown) - lines} more lines")


def perform(demonstrate: Callable[[Path], None], *, room: int) -> None:
    """In a folder of its own, in memory if `room` bytes are free there; cleaned up in any case."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    memory = Path("/dev/shm")  # noqa: S108 a tmpfs shows the driver's cost, not the disk's
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > room
    place = Path(tempfile.mkdtemp(prefix="ckfs-demo-", dir=memory if roomy else None))
    os.environ["CKFS_STATE_DIR"] = str(place / "state")
    try:
        demonstrate(place)
    finally:
        _clean(place)
    print("\nAll of it held.")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit("demo: interrupted")


def _clean(place: Path) -> None:
    mountpoint = str(place / "files")
    until = time.monotonic() + 20
    while os.path.ismount(mountpoint) and time.monotonic() < until:
        # Somebody who was killed may still be letting go of it.
        subprocess.run((BIN / "ckfs", "umount", mountpoint), capture_output=True, check=False)
    if os.path.ismount(mountpoint):
        subprocess.run((BIN / "ckfs", "umount", "--lazy", mountpoint), check=False)
    shutil.rmtree(place)
    print(f"cleaned up {place}")
