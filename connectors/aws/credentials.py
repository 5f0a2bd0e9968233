"""Keys to sign with, from botocore's credential chain."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

import botocore.session
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError


class NoCredentialsError(Exception):
    """The credential chain has no credentials, or could not be read."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key to sign with. `generation` grows each time that the chain is read again."""

    keys: ReadOnlyCredentials
    generation: int


class CredentialSource(Protocol):
    """Where keys come from."""

    async def current(self) -> Credentials:
        """Keys that are not known to have expired. Raises NoCredentialsError."""

    async def renew(self, refused: int) -> None:
        """Read the chain again, unless that was done since the rejected generation.

        Raises NoCredentialsError.
        """


class BotocoreCredentials:
    """botocore's chain: environment, profile, container or instance role; refreshed in time.

    What can block (files, metadata services, STS) runs on a thread, once for all waiting callers.
    """

    def __init__(self, profile: str | None = None) -> None:
        self._profile = profile
        self._source: Any = None
        self._current: Credentials | None = None
        self._generation = -1
        self._lock = asyncio.Lock()

    async def current(self) -> Credentials:
        if self._current is not None and not self._stale():
            return self._current
        async with self._lock:
            if self._current is None:
                await self._read_chain()
            elif self._stale():
                self._current = Credentials(
                    await self._on_thread(self._source.get_frozen_credentials), self._generation
                )
        assert self._current is not None
        return self._current

    async def renew(self, refused: int) -> None:
        async with self._lock:
            if self._generation == refused:
                await self._read_chain()

    def _stale(self) -> bool:
        # Only refreshable credentials have a known expiry.
        refresh_needed = getattr(self._source, "refresh_needed", None)
        return refresh_needed is not None and bool(refresh_needed())

    async def _read_chain(self) -> None:
        def read() -> tuple[Any, ReadOnlyCredentials]:
            session = botocore.session.Session(profile=self._profile)
            source = session.get_credentials()
            if source is None:
                raise NoCredentialsError(
                    "No AWS credentials were found. Set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the application a role."
                )
            return source, source.get_frozen_credentials()

        self._source, keys = await self._on_thread(read)
        self._generation += 1
        self._current = Credentials(keys, self._generation)

    async def _on_thread(self, read: Any) -> Any:
        try:
            return await asyncio.to_thread(read)
        except BotoCoreError as error:
            raise NoCredentialsError(f"AWS credentials could not be read: {error}") from error
