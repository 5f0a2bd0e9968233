"""Fault plans: how a test makes a service fail (emulators/faults.py)."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any, Protocol

Plan = Mapping[str, Any]
"""A fault plan in the format of emulators/faults.py."""


class FaultPlans(Protocol):
    """A service with a fault plan."""

    def put(self, plan: Plan) -> None:
        """Set the plan."""

    def clear(self) -> None:
        """Remove the plan."""

    def report(self) -> list[dict[str, Any]]:
        """Return the rules of the plan, each with how often it ``fired``."""


class ServiceFaults:
    """The fault plan of the emulator of Personalize or Firehose."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/_local/faults"

    def put(self, plan: Plan) -> None:
        """Set the plan."""
        call_json("PUT", self._url, plan)

    def clear(self) -> None:
        """Remove the plan."""
        call_json("DELETE", self._url)

    def report(self) -> list[dict[str, Any]]:
        """Return the rules of the plan, each with how often it ``fired``."""
        rules: list[dict[str, Any]] = call_json("GET", self._url)["rules"]
        return rules


def call_json(method: str, url: str, body: object = None) -> Any:
    """Call a service; returns the JSON of the response."""
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read() or b"{}")
