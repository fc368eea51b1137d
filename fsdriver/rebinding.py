"""Seals a file to other names than it was sealed to (FORMAT.md sections 3 and 7)."""

from collections.abc import Iterable

from fsdriver.format.header import BINDINGS
from fsdriver.sealedfile import SealedFile


def rebind(file: SealedFile, bindings: Iterable[bytes]) -> None:
    """Seal the file to these names; to none in particular when there are too many."""
    unique = tuple(dict.fromkeys(bindings))
    if len(unique) > BINDINGS:
        rebind_to_none(file)
    else:
        _seal_as(file, unique, unbound=False)


def rebind_to_none(file: SealedFile) -> None:
    """Seal the file as valid under every name of its site."""
    _seal_as(file, (), unbound=True)


def _seal_as(file: SealedFile, bindings: tuple[bytes, ...], *, unbound: bool) -> None:
    if file.state.dirty:
        # Its size is new and its extents are those of before: only a seal has both right.
        file.seal()
    file.state.bindings = bindings
    file.state.unbound = unbound
    file.write_header()
