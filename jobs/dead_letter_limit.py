"""A limit on dead letters: a bad deployment must not empty a topic into ``dead-letters``. Pure.

Each function of a pipeline counts the records that it reads and those that it refuses. Where too
many are refused it raises, so the task fails and its position is not committed: the records stay in
their topic. Flink restarts the task from the last checkpoint. Without more, each restart would pass
as many dead letters as the limit allows, so what was counted is kept in a file of the worker's
machine: a restarted function goes on where it stopped, and the next dead letter stops it again.
Only a window without one, or a new submission of the job, begins anew.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from jobs.settings import LimitSettings
from schemas.errors import TunemeshError


class DeadLetterLimitReached(TunemeshError):
    """Too many of a function's records are dead letters; the pipeline stops."""


class Rule(NamedTuple):
    """``needed`` dead letters among ``window`` records in succession stop the pipeline."""

    needed: int
    window: int
    setting: str


class DeadLetterLimit:
    """The dead letters of one function; records are numbered from 1 in the order of reading."""

    def __init__(self, function: str, settings: LimitSettings, kept: Path) -> None:
        """``kept``: the file with what was counted when the limit was reached, if it was."""
        self._function = function
        self._group = settings.group_name
        self._rules = rules(settings)
        self._window = max((rule.window for rule in self._rules), default=0)
        self._kept = kept
        self._refused: deque[tuple[int, str]] = deque(
            maxlen=max((rule.needed for rule in self._rules), default=0)
        )
        self.is_resumed = bool(self._rules) and kept.exists()
        """The limit was reached before, and since then too few records were read."""
        if self.is_resumed:
            self._refused.extend((number, code) for number, code in json.loads(kept.read_bytes()))

    def note_accepted(self, number: int) -> None:
        """Note that a record was no dead letter; needed only while ``is_resumed``."""
        if number >= self._window:
            self.is_resumed = False
            self._kept.unlink(missing_ok=True)

    def note_refused(self, number: int, code: str) -> None:
        """Note a dead letter with its reason; raises DeadLetterLimitReached."""
        self._refused.append((number, code))
        for rule in self._rules:
            if len(self._refused) < rule.needed:
                continue
            first, _ = self._refused[-rule.needed]
            if number - first < rule.window:
                self._stop(rule, number)

    def _stop(self, rule: Rule, number: int) -> None:
        problem = self._keep(number)
        pipeline = self._group.removeprefix("tunemesh.")
        codes = Counter(code for _, code in list(self._refused)[-rule.needed :])
        code, times = codes.most_common(1)[0]
        raise DeadLetterLimitReached(
            f"the pipeline {pipeline} stops: {rule.needed:,} of {rule.window:,} records in"
            f" succession of {self._function} are dead letters, {times:,} of them {code}. The"
            " records stay in their topic. Undo the change of the deployment, the registry or the"
            f" producer that made them invalid; or raise the property {rule.setting!r} of the group"
            f" {self._group!r} (0: no limit), if they are to become dead letters{problem}"
        )

    def _keep(self, number: int) -> str:
        # The record is read again: then it follows those before it.
        before = [(each - number + 1, code) for each, code in list(self._refused)[:-1]]
        # Other subtasks of the function may do the same.
        part = self._kept.with_name(f"{self._kept.name}.{uuid4().hex}")
        try:
            part.write_text(json.dumps(before))
            part.replace(self._kept)
        except OSError as error:
            return f". Each restart adds as many dead letters, since the count is not kept: {error}"
        return ""


def rules(settings: LimitSettings) -> list[Rule]:
    """The rules of a pipeline; none where it has no limit."""
    found = []
    if count := settings.max_consecutive:
        found.append(Rule(count, count, "dead.letters.max.consecutive"))
    if percent := settings.max_percent:
        window = settings.window
        found.append(Rule(window * percent // 100 + 1, window, "dead.letters.max.percent"))
    return found
