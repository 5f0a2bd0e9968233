"""Index templates: the mappings and settings of indexes that the first document creates.

Putting them is idempotent, so it is done at every start.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from connectors.aws import NoCredentialsError
from connectors.http import NoAnswer
from connectors.opensearch.client import OpenSearchClient, opensearch_client
from connectors.opensearch.settings import OpenSearchSettings
from schemas.errors import TunemeshError

TEMPLATES_FOLDER: Final = Path(__file__).parent / "templates"
_PREFIX: Final = "tunemesh-"


class OpenSearchSetupError(TunemeshError):
    """The templates could not be put; the message says why and what to do."""


def index_templates(folder: Path = TEMPLATES_FOLDER) -> dict[str, dict[str, Any]]:
    """Name and body of each template: `events.json` is `tunemesh-events`.

    Raises OpenSearchSetupError for a file that is not a JSON object, and for a folder without any.
    """
    templates: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise OpenSearchSetupError(
                f"The index template {path} is not JSON: {error}. Correct the file."
            ) from None
        if not isinstance(body, dict):
            raise OpenSearchSetupError(
                f"The index template {path} is not a JSON object. Correct the file."
            )
        templates[_PREFIX + path.stem] = body
    if not templates:
        raise OpenSearchSetupError(
            f"There is no index template in {folder}. Install tunemesh again."
        )
    return templates


async def put_index_templates(
    client: OpenSearchClient, templates: dict[str, dict[str, Any]]
) -> None:
    """Put each template.

    Raises OpenSearchSetupError when OpenSearch does not answer, or rejects one.
    """
    for name, body in templates.items():
        try:
            answer, _ = await client.request(
                "PUT", f"/_index_template/{name}", json.dumps(body).encode()
            )
        except NoCredentialsError as error:
            raise OpenSearchSetupError(str(error)) from None
        if isinstance(answer, NoAnswer):
            raise OpenSearchSetupError(
                f"OpenSearch does not answer ({answer.reason}). Check that it runs, and its "
                "endpoint URL."
            )
        if answer.status >= 300:
            reason = ": ".join(part for part in (answer.code, answer.message.rstrip(".")) if part)
            raise OpenSearchSetupError(
                f"OpenSearch rejected the index template {name} with status {answer.status}"
                f"{f' ({reason})' if reason else ''}. {_advice(answer.status)}"
            )


def set_up_opensearch(settings: OpenSearchSettings) -> None:
    """Put all templates, without an event loop of the caller. Raises OpenSearchSetupError."""

    async def put() -> None:
        client = opensearch_client(settings)
        try:
            await put_index_templates(client, index_templates())
        finally:
            await client.close()

    asyncio.run(put())


def _advice(status: int) -> str:
    if status in (401, 403):
        return "Check the authentication that is set, and that it may manage index templates."
    if status == 429 or status >= 500:
        return "The cluster is overloaded or not ready yet: try again."
    return "Check the endpoint URL, and the version of OpenSearch (2.0 or newer)."
