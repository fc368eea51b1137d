"""The files that measurements write, read back as what they are."""

from pathlib import Path
from typing import Final

import msgspec

from bench import figures
from bench.figures import Run
from bench.hot_path_figures import HotPathRun
from bench.keys_figures import KeysRun
from bench.operations_figures import OperationsRun

Document = Run | KeysRun | HotPathRun | OperationsRun

_ONE: Final = {"keys": KeysRun, "hot-path": HotPathRun, "operations": OperationsRun}


class _Head(msgspec.Struct):
    bench: str


class Unreadable(Exception):
    """Says which file, and why."""


def load(path: Path) -> list[Document]:
    """Raises Unreadable."""
    try:
        raw = path.read_bytes()
        if raw.lstrip().startswith(b"["):
            return [*figures.load(path)]
        known = _ONE.get(msgspec.json.decode(raw, type=_Head).bench)
        if known is None:
            raise Unreadable(f"{path} is of a measurement that this version does not know")
        found: Document = msgspec.json.decode(raw, type=known)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreadable(
            f"{path} is not what `python -m bench` writes with --json ({error}); measure anew"
        ) from None
    return [found]
