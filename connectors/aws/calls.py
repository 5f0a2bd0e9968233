"""The outcome of one call: sent, classified, rejected credentials renewed."""

from __future__ import annotations

from collections.abc import Callable

from connectors.aws.classification import CredentialsRefused, Verdict
from connectors.aws.client import JsonClient
from connectors.aws.credentials import NoCredentialsError
from connectors.delivery import Delivered, Fatal, Outcome, Rejected, Retry
from connectors.http import Answer, NoAnswer


class ClassifiedCalls:
    """The calls of one destination.

    Remembers which credentials the service has accepted: rejected ones are retried with those that
    the chain has now, and are fatal only when these are rejected, too.
    """

    def __init__(
        self, client: JsonClient, classify: Callable[[Answer | NoAnswer], Verdict]
    ) -> None:
        self._client = client
        self._classify = classify
        # The newest generation of credentials that the service has accepted.
        self._accepted = -1

    async def post(self, path: str, body: bytes) -> tuple[Outcome, bytes]:
        """The outcome of the call as a whole, and the body of the answer when it is Delivered."""
        try:
            answer, generation = await self._client.post(path, body)
            verdict = self._classify(answer)
            outcome = (
                await self._renew_credentials(verdict, generation)
                if isinstance(verdict, CredentialsRefused)
                else verdict
            )
        except NoCredentialsError as error:
            return Fatal("NoCredentials", str(error)), b""
        if isinstance(outcome, Delivered | Rejected):
            self._accepted = max(self._accepted, generation)
        return outcome, answer.body if isinstance(answer, Answer) else b""

    async def close(self) -> None:
        await self._client.close()

    async def _renew_credentials(self, refused: CredentialsRefused, generation: int) -> Outcome:
        # Fatal only with credentials that were fetched because the former ones were rejected. They
        # are renewed even then, so that the next attempt, after a restart, sees a change.
        await self._client.renew_credentials(generation)
        if generation > 0 and generation > self._accepted:
            return refused.fatal
        return Retry(reason=f"credentials renewed after {refused.fatal.code}")
