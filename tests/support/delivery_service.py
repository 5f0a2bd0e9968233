"""A service that fails on demand, behind the client of a destination."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from connectors.delivery import Destination
from connectors.http import Answer, NoAnswer
from tests.support.delivery_contract import Trouble


class FakeService:
    """A client with the service behind it; a subclass says what is in a body, and answers it."""

    troubles: ClassVar[Mapping[Trouble, Answer | NoAnswer]]

    def __init__(self) -> None:
        self.trouble: list[Trouble] = []
        self.calls: list[Any] = []
        self.in_flight = 0
        self.peak_in_flight = 0
        self.generation = 0
        self.accepts_credentials: Callable[[int], bool] = lambda generation: True
        self.closed = False

    def read(self, path: str, body: bytes) -> Any:
        """The content of a call; an AssertionError when it breaks a limit of the service."""
        raise NotImplementedError

    def answer(self, request: Any, call: int) -> Answer:
        """The answer to the content of the call of that number, from 0."""
        raise NotImplementedError

    async def post(self, path: str, body: bytes) -> tuple[Answer | NoAnswer, int]:
        generation, call, request = self.generation, len(self.calls), self.read(path, body)
        self.calls.append(request)
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0.02)
            if self.trouble:
                trouble = self.trouble.pop()
                if trouble == "hanging":
                    await asyncio.get_running_loop().create_future()
                return self.troubles[trouble], generation
        finally:
            self.in_flight -= 1
        if not self.accepts_credentials(generation):
            return Answer(403, "ExpiredTokenException", "The token has expired"), generation
        return self.answer(request, call), generation

    async def renew_credentials(self, refused: int) -> None:
        await asyncio.sleep(0.1)
        if refused == self.generation:
            self.generation += 1

    async def close(self) -> None:
        self.closed = True


class ServiceHarness:
    """The part of a harness that is the service's."""

    def __init__(self, service: FakeService, destination: Destination[Any, Any]) -> None:
        self._service = service
        self.destination = destination

    @property
    def peak_in_flight(self) -> int:
        return self._service.peak_in_flight

    @property
    def calls(self) -> int:
        return len(self._service.calls)

    def fail_next(self, calls: int, trouble: Trouble) -> None:
        self._service.trouble = [trouble] * calls
