"""One call of an operation: posted, classified, with newer credentials where those were refused."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.delivery import Delivered, Fatal, Outcome, Rejected, Retry
from connectors.personalize.classification import CredentialsRefused, classify
from connectors.personalize.client import JsonClient, NoCredentialsError


class Calls:
    """Calls of one operation. `advice`: what to tell a person, by error code (see `classify`)."""

    def __init__(
        self, client: JsonClient, path: str, advice: Mapping[str, str] | None = None
    ) -> None:
        self._client = client
        self._path = path
        self._advice = advice
        # The newest generation of credentials that the service has accepted.
        self._accepted = -1

    async def send(self, body: bytes) -> Outcome:
        """The outcome of a call, the same for all that the body carries."""
        try:
            answer, generation = await self._client.post(self._path, body)
            verdict = classify(answer, self._advice)
            outcome = (
                await self._renew_credentials(verdict, generation)
                if isinstance(verdict, CredentialsRefused)
                else verdict
            )
        except NoCredentialsError as error:
            return Fatal("NoCredentials", str(error))
        if isinstance(outcome, Delivered | Rejected):
            self._accepted = max(self._accepted, generation)
        return outcome

    async def close(self) -> None:
        await self._client.close()

    async def _renew_credentials(self, refused: CredentialsRefused, generation: int) -> Outcome:
        # Fatal only with credentials that were fetched because the ones before were refused. They
        # are fetched anew even then, so that the next attempt, after a restart, sees what has been
        # changed.
        await self._client.renew_credentials(generation)
        if generation > 0 and generation > self._accepted:
            return refused.fatal
        return Retry(reason=f"credentials renewed after {refused.fatal.code}")
