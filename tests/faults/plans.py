"""Fault plans: how a test makes a service fail (emulators/faults.py)."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any, Protocol

Plan = Mapping[str, Any]
"""A fault plan, as a service takes it."""


class FaultPlans(Protocol):
    """A service that fails by a plan."""

    def put(self, plan: Plan) -> None:
        """Fail by a plan from now on."""

    def clear(self) -> None:
        """Work again."""

    def report(self) -> list[dict[str, Any]]:
        """The rules of the present plan, each with how often it ``fired``."""


class ServiceFaults:
    """The plans of the Personalize emulator, or of the Firehose emulator."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/_local/faults"

    def put(self, plan: Plan) -> None:
        """Fail by a plan from now on."""
        self._call("PUT", json.dumps(plan).encode())

    def clear(self) -> None:
        """Work again."""
        self._call("DELETE", None)

    def report(self) -> list[dict[str, Any]]:
        """The rules of the present plan, each with how often it ``fired``."""
        rules: list[dict[str, Any]] = self._call("GET", None)["rules"]
        return rules

    def _call(self, method: str, body: bytes | None) -> Any:
        request = urllib.request.Request(self._url, data=body, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"{}")
