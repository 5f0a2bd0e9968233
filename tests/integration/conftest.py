"""Fixtures of the tests on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.aws.sdk import sdk_client
from tests.support.ports import free_port
from tests.support.servers import aws_emulator


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an emulator of AWS that only this module's tests use."""
    with aws_emulator(free_port(), tmp_path_factory.mktemp("aws")) as url:
        yield url


@pytest.fixture
def s3(aws: str) -> Any:
    """An S3 client of it."""
    return sdk_client("s3", "us-east-1", aws)
