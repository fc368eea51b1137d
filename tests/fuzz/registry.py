"""Every parser of bytes from outside. To add one: a line here, or in a list that is named here.

    Parser(name, parse, (errors that may come out,), pack or None, canonical=True or False)

and at least one file in corpus/<name>/.
"""

from tests.fuzz import (
    targets_keys,
    targets_recovery,
    targets_store,
    targets_transport,
    targets_vault,
)
from tests.fuzz.engine import Parser

PARSERS: list[Parser] = [
    *targets_store.PARSERS,
    *targets_recovery.PARSERS,
    *targets_keys.PARSERS,
    *targets_vault.PARSERS,
    *targets_transport.PARSERS,
]
