"""Failures on demand: which call fails, and how, by operation, rate and seed.

A plan is JSON:

    {"seed": 7, "rules": [{"operation": "PutEvents", "kind": "throttle", "rate": 0.3}]}

A rule:

    operation    the operation's name, or "*"
    kind         throttle              ThrottlingException, HTTP 400
                 error500, error503    InternalFailure, ServiceUnavailable
                 in_use                ResourceInUseException, HTTP 409
                 access_denied, expired_token, unrecognized_client    HTTP 403
                 timeout               no response; the connection is closed after `seconds`
                 disconnect            the connection is closed at once, without a response
                 slow                  the normal response, `seconds` later
                 partial               the last records of the call, the fraction `share`, are not
                                       stored (a single record is not stored), and the response is
                                       InternalFailure; Firehose chooses the records at random,
                                       responds with 200 and reports which records failed
    rate         fraction of the calls that fail, 0 to 1 (default 1)
    seconds      for timeout (default 30, at most 300) and slow (default 1, at most 300)
    after_write  true: the call takes effect and then fails, so the client cannot know the result
                 (error500, error503, timeout, disconnect)
    share        for partial: fraction of the records of a call, 0 to 1 (default 0.5)
    skip, first  the first `skip` calls pass, then only the next `first` calls can fail
    until        the rule ends at this time, seconds since 1970

The first rule that fires is applied. Each rule draws once for every call of its operation, from its
own random sequence, so which calls fail depends on the seed and on their number, not on time. Pure
except for these counters.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

KINDS = (
    "throttle",
    "error500",
    "error503",
    "in_use",
    "access_denied",
    "expired_token",
    "unrecognized_client",
    "timeout",
    "disconnect",
    "slow",
    "partial",
)
AFTER_WRITE_KINDS = frozenset(("error500", "error503", "timeout", "disconnect"))
DEFAULT_SHARE = 0.5
MAX_SECONDS = 300.0
DEFAULT_SECONDS: Mapping[str, float] = {"timeout": 30.0, "slow": 1.0}


class InvalidPlan(ValueError):
    """An invalid fault plan; the message names the rule, the value and what was expected."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When calls of one operation fail, and how; the module's docstring describes the fields."""

    operation: str
    kind: str
    rate: float = 1.0
    seconds: float = 0.0
    after_write: bool = False
    skip: int = 0
    first: int | None = None
    until: float | None = None
    share: float = DEFAULT_SHARE


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules in their order, and the seed of their random sequences."""

    seed: int = 0
    rules: tuple[Rule, ...] = ()


class Faults:
    """Decides for each call whether a rule of the plan fires. Owned by one event loop."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._draws = [random.Random(f"{plan.seed}/{index}") for index in range(len(plan.rules))]
        self._records = [
            random.Random(f"{plan.seed}/{index}/records") for index in range(len(plan.rules))
        ]
        self._matched = [0] * len(plan.rules)
        self._fired = [0] * len(plan.rules)

    def decide(self, operation: str, now: float) -> Rule | None:
        """The rule that applies to this call of `operation`; `now` in seconds since 1970."""
        applied: int | None = None
        for index, rule in enumerate(self._plan.rules):
            if rule.operation not in (operation, "*"):
                continue
            number = self._matched[index]
            self._matched[index] += 1
            drawn = self._draws[index].random() < rule.rate
            in_range = number >= rule.skip and (
                rule.first is None or number < rule.skip + rule.first
            )
            in_time = rule.until is None or now < rule.until
            if drawn and in_range and in_time and applied is None:
                applied = index
        if applied is None:
            return None
        self._fired[applied] += 1
        return self._plan.rules[applied]

    def draw_failed(self, rule: Rule, count: int) -> frozenset[int]:
        """Draw the positions of the records that fail, of `count` records of a partial call.

        Their number follows from the rule's share and is at least 1. Each rule has a sequence of
        its own.
        """
        draws = self._records[self._plan.rules.index(rule)]
        return frozenset(draws.sample(range(count), max(1, count - count_stored(rule, count))))

    def report(self) -> dict[str, Any]:
        """The plan as JSON; each rule with how many calls it matched and how many it failed."""
        return {
            "seed": self._plan.seed,
            "rules": [
                {**asdict(rule), "matched": matched, "fired": fired}
                for rule, matched, fired in zip(
                    self._plan.rules, self._matched, self._fired, strict=True
                )
            ],
        }


def count_stored(rule: Rule, count: int) -> int:
    """How many of the `count` records of a call are stored under a partial rule."""
    return count - math.ceil(count * rule.share)


def read_plan(text: bytes, operations: Sequence[str], kinds: Sequence[str] = KINDS) -> Plan:
    """The plan in a JSON text; raises InvalidPlan, see :func:`parse_plan`."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidPlan(f"the fault plan is not JSON: {error}") from error
    return parse_plan(document, operations, kinds)


def parse_plan(document: object, operations: Sequence[str], kinds: Sequence[str] = KINDS) -> Plan:
    """The plan in a decoded JSON document; raises InvalidPlan.

    `operations` and `kinds` are the ones that the service supports.
    """
    if not isinstance(document, dict):
        raise InvalidPlan("a fault plan is a JSON object with 'seed' and 'rules'")
    _check_keys(document, ("seed", "rules"), "the plan")
    seed = document.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InvalidPlan(f"'seed' must be a whole number, not {seed!r}")
    rules = document.get("rules", [])
    if not isinstance(rules, list):
        raise InvalidPlan("'rules' must be a list")
    parsed = (
        _parse_rule(rule, f"rule {n}", operations, kinds) for n, rule in enumerate(rules, start=1)
    )
    return Plan(seed, tuple(parsed))


def _parse_rule(
    document: object, where: str, operations: Sequence[str], kinds: Sequence[str]
) -> Rule:
    if not isinstance(document, dict):
        raise InvalidPlan(f"{where} must be a JSON object")
    _check_keys(document, tuple(Rule.__dataclass_fields__), where)
    operation = document.get("operation")
    if not isinstance(operation, str) or operation not in ("*", *operations):
        choices = ", ".join(("*", *operations))
        raise InvalidPlan(f"{where}: 'operation' is {operation!r}, expected one of {choices}")
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise InvalidPlan(f"{where}: 'kind' is {kind!r}, expected one of {', '.join(kinds)}")
    after_write = document.get("after_write", False)
    if not isinstance(after_write, bool):
        raise InvalidPlan(f"{where}: 'after_write' must be true or false")
    if after_write and kind not in AFTER_WRITE_KINDS:
        choices = ", ".join(sorted(AFTER_WRITE_KINDS))
        raise InvalidPlan(f"{where}: 'after_write' is for {choices}, not for {kind}")
    if "share" in document and kind != "partial":
        raise InvalidPlan(f"{where}: 'share' is for partial, not for {kind}")
    default_seconds = DEFAULT_SECONDS.get(kind, 0.0)
    first = _number(document, "first", where, None, whole=True)
    return Rule(
        operation=operation,
        kind=kind,
        rate=_number(document, "rate", where, 1.0, maximum=1.0) or 0.0,
        seconds=_number(document, "seconds", where, default_seconds, maximum=MAX_SECONDS) or 0.0,
        after_write=after_write,
        skip=int(_number(document, "skip", where, 0, whole=True) or 0),
        first=None if first is None else int(first),
        until=_number(document, "until", where, None),
        share=_number(document, "share", where, DEFAULT_SHARE, maximum=1.0) or 0.0,
    )


def _number(
    document: Mapping[str, Any],
    name: str,
    where: str,
    default: float | None,
    *,
    maximum: float = float("inf"),
    whole: bool = False,
) -> float | None:
    value = document.get(name, default)
    if value is None:
        return None
    allowed = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not 0 <= value <= maximum:
        noun = "a whole number" if whole else "a number"
        bound = "0 or more" if maximum == float("inf") else f"from 0 to {maximum:g}"
        raise InvalidPlan(f"{where}: '{name}' is {value!r}, expected {noun}, {bound}")
    return value


def _check_keys(document: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(document) - set(known))
    if unknown:
        raise InvalidPlan(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(known)}")
