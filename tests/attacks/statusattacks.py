"""Attacks on attributes and status; and what is no attack."""

from __future__ import annotations

from tests.attacks import ourformat as o
from tests.attacks.attack import NAME, NO_ATTACK, NOT_FOUND, Attack

_STATUS = "the store's filesystem keeps it"

STATUS = (
    # Attributes and status
    Attack(
        "attribute of another file",
        "put in the value of another file's attribute",
        o.attribute_of_another,
        (),
        "attribute",
        NAME,
        first=o.set_attributes(b"blue"),
    ),
    Attack(
        "older attribute",
        "put back an attribute's older value",
        o.older_attribute,
        (34,),
        NOT_FOUND,
        first=o.set_attributes(b"blue"),
        later=o.set_attributes(b"green"),
        why="nothing outside the file knows its attributes",
    ),
    Attack(
        "attribute deleted",
        "delete an attribute",
        o.delete_attribute,
        (34,),
        NOT_FOUND,
        first=o.set_attributes(b"blue"),
        why="nothing outside the file knows its attributes",
    ),
    Attack(
        "mode, owner, times",
        "change mode, owner and times of a file",
        o.change_status,
        (24,),
        NOT_FOUND,
        why=_STATUS,
        shows=o.has_another_status,
    ),
    Attack(
        "link broken",
        "make a file of its own of one of two links",
        o.break_the_link,
        (24,),
        NOT_FOUND,
        victims=("second",),
        later=o.link_once,
        why=_STATUS,
        shows=o.has_one_link,
    ),
    # No attack
    Attack(
        "conflict copy",
        "what a sync client leaves when a file was changed on two machines",
        o.conflict_copy,
        (14,),
        NO_ATTACK,
        "ConflictCopy",
        victims=(),
    ),
)
