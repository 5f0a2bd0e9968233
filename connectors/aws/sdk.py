"""boto3 clients for calls outside the stream: S3, Glue, Lake Formation, DynamoDB.

The sink engine does not use them: botocore costs a millisecond or more of Python a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import boto3
import botocore.config
import botocore.exceptions

from connectors.aws.endpoint import botocore_session, is_loopback
from schemas.errors import TunemeshError

ATTEMPTS: Final = 5
"""Of a call: botocore repeats what a service throttles or fails to answer, with jitter."""


class ServiceUnavailable(TunemeshError):
    """An AWS service rejected a call or did not answer; the message says which and what to do."""


def sdk_client(service: str, region: str, endpoint_url: str | None = None, **options: Any) -> Any:
    """A client with the usual chain of credentials; makes no request.

    An endpoint on this machine gets the local platform's credentials (``local``) instead, path
    style addresses and no proxy. ``options`` of botocore's Config come before those that are set
    here. A client may be shared by threads.
    """
    local = endpoint_url is not None and is_loopback(endpoint_url)
    core = botocore_session()
    session = boto3.session.Session(
        botocore_session=core,
        region_name=region,
        aws_access_key_id="local" if local else None,
        aws_secret_access_key="local" if local else None,
    )
    # The path to boto3's resources, which it appends at each session and nothing here uses.
    core.get_component("data_loader").search_paths.pop()
    defaults = {
        "connect_timeout": 5,
        "read_timeout": 60,
        "retries": {"total_max_attempts": ATTEMPTS, "mode": "standard"},
        "max_pool_connections": 32,
        "proxies": {} if local else None,
        "s3": {"addressing_style": "path"} if local else None,
    }
    config = botocore.config.Config(**{**defaults, **options})
    return session.client(service, endpoint_url=endpoint_url, config=config)


def error_code(error: botocore.exceptions.ClientError) -> str:
    """The code of an error that a service has answered with."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def service_errors(what: str, advice: str = "") -> Iterator[None]:
    """Raise errors of boto3 as ServiceUnavailable; ``what`` is the attempt: "publish songs"."""
    try:
        yield
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        text = f"cannot {what}: {error}"
        raise ServiceUnavailable(f"{text.rstrip('.')}. {advice}".rstrip()) from error
