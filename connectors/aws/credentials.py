"""Keys to sign with, from botocore's credential chain."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any, Protocol

import botocore.session
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError

REFRESH_PAUSE_SECONDS = 15.0
"""After a refresh that failed; botocore begins a quarter of an hour before the expiry."""

EXPIRY_MARGIN_SECONDS = 5.0
"""Keys that expire within this are not used any more: a call and its clock take a moment."""

_log = logging.getLogger(__name__)


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
    Keys that are valid are handed out at once: they are refreshed in the background, and a refresh
    that fails or hangs delays nobody before they expire.
    """

    def __init__(self, profile: str | None = None) -> None:
        self._profile = profile
        self._source: Any = None
        self._current: Credentials | None = None
        self._generation = -1
        self._lock = asyncio.Lock()
        self._refresh: asyncio.Task[None] | None = None
        self._refresh_at = 0.0

    async def current(self) -> Credentials:
        if self._current is None:
            async with self._lock:
                if self._current is None:
                    await self._read_chain()
        elif self._expires_within(EXPIRY_MARGIN_SECONDS):
            async with self._lock:
                if self._expires_within(EXPIRY_MARGIN_SECONDS):
                    await self._read_source()
        elif (
            self._refresh is None
            and self._expires_within(None)
            and time.monotonic() >= self._refresh_at
        ):
            self._refresh = asyncio.create_task(self._refresh_in_background())
        assert self._current is not None
        return self._current

    async def renew(self, refused: int) -> None:
        async with self._lock:
            if self._generation == refused:
                await self._read_chain()

    def _expires_within(self, seconds: float | None) -> bool:
        """Whether the source's keys expire soon; None: within the time in which botocore refreshes.

        Only refreshable credentials have a known expiry.
        """
        refresh_needed = getattr(self._source, "refresh_needed", None)
        return refresh_needed is not None and bool(refresh_needed(seconds))

    async def _refresh_in_background(self) -> None:
        try:
            async with self._lock:
                await self._read_source()
        except NoCredentialsError as error:
            _log.warning("AWS credentials are not refreshed yet: %s", error)
        finally:
            self._refresh_at = time.monotonic() + REFRESH_PAUSE_SECONDS
            self._refresh = None

    async def _read_source(self) -> None:
        """Take the source's keys, which it refreshes when they are about to expire."""
        keys = await self._on_thread(self._source.get_frozen_credentials)
        self._current = Credentials(keys, self._generation)

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
