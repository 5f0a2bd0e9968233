"""Failures on demand: which call fails, and how, by operation, rate and seed.

A plan is JSON:

    {"seed": 7, "rules": [{"operation": "PutEvents", "kind": "throttle", "rate": 0.3}]}

A rule:

    operation    the operation's name, or "*"
    kind         throttle              ThrottlingException, HTTP 400
                 error500, error503    InternalFailure, ServiceUnavailable
                 in_use                ResourceInUseException, HTTP 409
                 access_denied, expired_token, unrecognized_client    HTTP 403
                 timeout               no answer; the connection is closed after `seconds`
                 disconnect            the connection is closed at once, without an answer
                 slow                  the normal answer, `seconds` later
                 partial               of the call's records `share` is not stored, the last ones
                                       (of one record: none is), then InternalFailure; Firehose
                                       answers 200 and says for each record whether it failed
    rate         share of the calls that fail, 0 to 1 (default 1)
    seconds      for timeout (default 30, at most 300) and slow (default 1, at most 300)
    after_write  true: the call takes effect and then fails, so that the client cannot know
                 (error500, error503, timeout, disconnect)
    share        for partial: of a call's records, 0 to 1 (default 0.5)
    skip, first  let the first `skip` calls pass, then only the next `first` calls can fail
    until        the rule ends at this time, seconds since 1970

The first rule that fires wins. Each rule draws once for every call of its operation, from its own
sequence, so which calls fail depends on the seed and on their number, not on time. Pure but for
those counts.
"""

from __future__ import annotations

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
MOST_SECONDS = 300.0
DEFAULT_SECONDS: Mapping[str, float] = {"timeout": 30.0, "slow": 1.0}


class InvalidPlan(ValueError):
    """A fault plan that cannot be used; the message says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When calls of one operation fail, and how; the fields are described in this module."""

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
    """The rules in their order, and the seed of their draws."""

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
        """The rule that this call of `operation` falls under; `now` in seconds since 1970."""
        chosen: int | None = None
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
            if drawn and in_range and in_time and chosen is None:
                chosen = index
        if chosen is None:
            return None
        self._fired[chosen] += 1
        return self._plan.rules[chosen]

    def lost(self, rule: Rule, count: int) -> frozenset[int]:
        """Which of `count` records of a partly failed call are lost, by their position.

        As many as the rule's share says, drawn from a sequence of the rule's own; at least one.
        """
        draws = self._records[self._plan.rules.index(rule)]
        return frozenset(draws.sample(range(count), max(1, count - kept(rule, count))))

    def report(self) -> dict[str, Any]:
        """The plan as JSON, each rule with how often it matched a call and how often it fired."""
        return {
            "seed": self._plan.seed,
            "rules": [
                {**asdict(rule), "matched": matched, "fired": fired}
                for rule, matched, fired in zip(
                    self._plan.rules, self._matched, self._fired, strict=True
                )
            ],
        }


def kept(rule: Rule, count: int) -> int:
    """How many of the `count` records of a call under a partial rule are stored."""
    return count - math.ceil(count * rule.share)


def parse_plan(document: object, operations: Sequence[str], kinds: Sequence[str] = KINDS) -> Plan:
    """The plan in a decoded JSON document; raises InvalidPlan.

    `operations` and `kinds` are those that the service has.
    """
    if not isinstance(document, dict):
        raise InvalidPlan("a fault plan is a JSON object with 'seed' and 'rules'")
    _known_keys(document, ("seed", "rules"), "the plan")
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
    _known_keys(document, tuple(Rule.__dataclass_fields__), where)
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
        raise InvalidPlan(f"{where}: 'after_write' goes with {choices}, not with {kind}")
    if "share" in document and kind != "partial":
        raise InvalidPlan(f"{where}: 'share' goes with partial, not with {kind}")
    default_seconds = DEFAULT_SECONDS.get(kind, 0.0)
    first = _number(document, "first", where, None, whole=True)
    return Rule(
        operation=operation,
        kind=kind,
        rate=_number(document, "rate", where, 1.0, most=1.0) or 0.0,
        seconds=_number(document, "seconds", where, default_seconds, most=MOST_SECONDS) or 0.0,
        after_write=after_write,
        skip=int(_number(document, "skip", where, 0, whole=True) or 0),
        first=None if first is None else int(first),
        until=_number(document, "until", where, None),
        share=_number(document, "share", where, DEFAULT_SHARE, most=1.0) or 0.0,
    )


def _number(
    document: Mapping[str, Any],
    name: str,
    where: str,
    default: float | None,
    *,
    most: float = float("inf"),
    whole: bool = False,
) -> float | None:
    value = document.get(name, default)
    if value is None:
        return None
    allowed = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not 0 <= value <= most:
        noun = "a whole number" if whole else "a number"
        bound = "0 or more" if most == float("inf") else f"from 0 to {most:g}"
        raise InvalidPlan(f"{where}: '{name}' is {value!r}, expected {noun}, {bound}")
    return value


def _known_keys(document: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(document) - set(known))
    if unknown:
        raise InvalidPlan(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(known)}")
