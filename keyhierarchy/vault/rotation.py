"""Rotation policies: the default, what a client may set, and what a rotation makes of it. Pure.

A policy is kept and answered and gives new versions their expiry. Nothing rotates by itself here: a
local server has no scheduler, and a test wants to say when.
"""

import calendar
import re
from datetime import UTC, datetime, timedelta

from keyhierarchy.vault.documents import RotationPolicyBody, Trigger
from keyhierarchy.vault.errors import bad_parameter
from keyhierarchy.vault.records import LifetimeAction, RotationPolicy

_DURATION = re.compile(r"P(?:(\d{1,4})Y)?(?:(\d{1,5})M)?(?:(\d{1,3})W)?(?:(\d{1,6})D)?")
_MONTHS = 12
_SHORTEST_EXPIRY_DAYS = 28
_NOTIFY = "Notify"
_ROTATE = "Rotate"
_DEFAULT_NOTICE = LifetimeAction(action=_NOTIFY, time_before_expiry="P30D")


def after(moment: float, duration: str) -> int:
    """Unix seconds of `moment` plus an ISO 8601 duration of years, months, weeks and days."""
    match = _DURATION.fullmatch(duration)
    if match is None or duration == "P":
        raise bad_parameter(f"{duration} is not an ISO 8601 duration in years, months or days.")
    years, months, weeks, days = (int(part or 0) for part in match.groups())
    start = datetime.fromtimestamp(moment, UTC)
    month_index = start.year * _MONTHS + start.month - 1 + years * _MONTHS + months
    year, month = divmod(month_index, _MONTHS)
    try:
        day = min(start.day, calendar.monthrange(year, month + 1)[1])
        moved = start.replace(year=year, month=month + 1, day=day)
        return int((moved + timedelta(weeks=weeks, days=days)).timestamp())
    except (ValueError, OverflowError, calendar.IllegalMonthError):
        raise bad_parameter(f"{duration} reaches past the calendar.") from None


def default_policy(created: int) -> RotationPolicy:
    """What a vault shows for a key that nobody has set a policy for."""
    return RotationPolicy(actions=[_DEFAULT_NOTICE], created=created, updated=created)


def _action(name: str, trigger: Trigger, expiry_time: str | None) -> LifetimeAction:
    known = {kind.lower(): kind for kind in (_NOTIFY, _ROTATE)}
    kind = known.get(name.lower())
    if kind is None:
        raise bad_parameter(f"{name} is not a lifetime action; known are Rotate and Notify.")
    given = [time for time in (trigger.time_after_create, trigger.time_before_expiry) if time]
    if len(given) != 1:
        raise bad_parameter(f"A {kind} action needs one of timeAfterCreate and timeBeforeExpiry.")
    after(0, given[0])
    if kind == _NOTIFY and trigger.time_after_create:
        raise bad_parameter("A Notify action can only be set with timeBeforeExpiry.")
    if kind == _ROTATE and trigger.time_before_expiry and expiry_time is None:
        raise bad_parameter("Rotating before expiry needs an expiryTime.")
    return LifetimeAction(
        action=kind,
        time_after_create=trigger.time_after_create or None,
        time_before_expiry=trigger.time_before_expiry or None,
    )


def parse_policy(body: RotationPolicyBody, now: int, old: RotationPolicy) -> RotationPolicy:
    expiry_time = body.attributes.expiry_time if body.attributes else None
    if expiry_time and after(0, expiry_time) < _SHORTEST_EXPIRY_DAYS * 86400:
        raise bad_parameter(f"An expiryTime is at least {_SHORTEST_EXPIRY_DAYS} days.")
    actions = [
        _action(item.action.type, item.trigger or Trigger(), expiry_time or None)
        for item in body.lifetime_actions or []
    ]
    names = [action.action for action in actions]
    if len(set(names)) != len(names):
        raise bad_parameter("Each lifetime action can be given once.")
    if _NOTIFY not in names:
        # The service puts its notice of 30 days beside whatever it is given.
        actions.append(_DEFAULT_NOTICE)
    return RotationPolicy(
        actions=actions, created=old.created, updated=now, expiry_time=expiry_time or None
    )
