"""Fixtures of the tests on real servers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.aws.sdk import sdk_client
from tests.integration.aws_part import aws_part


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a part `aws` that only this module's tests use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    data: Path = tmp_path_factory.mktemp("aws")
    with aws_part(port, data) as url:
        yield url


@pytest.fixture
def s3(aws: str) -> Any:
    """An S3 client of it."""
    return sdk_client("s3", "us-east-1", aws)
