"""Endpoint, authentication and pace of OpenSearch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from connectors.opensearch.documents import BYTES_PER_CALL, DOCUMENTS_PER_CALL
from schemas.errors import SettingError
from schemas.settings import check_positive

Documents: TypeAlias = Literal["events", "trends"]
Authentication: TypeAlias = Literal["none", "basic", "aws"]


@dataclass(frozen=True, slots=True)
class OpenSearchSettings:
    """One kind of documents in one cluster.

    endpoint_url         of the cluster or the domain, http or https
    documents            `events` (written once) or `trends` (replaced by newer versions)
    authentication       `none`; `basic`, with user and password; `aws`, signed for Amazon
                         OpenSearch Service with botocore's credential chain, in a region
    documents_per_call   at most
    bytes_per_call       at most; also for a single document
    calls_per_second     the pace without throttling. OpenSearch has no quota: it throttles, and the
                         engine slows down
    max_in_flight        calls under way, and connections
    request_timeout      seconds for one call
    """

    endpoint_url: str
    documents: Documents = "events"
    authentication: Authentication = "none"
    region: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    documents_per_call: int = DOCUMENTS_PER_CALL
    bytes_per_call: int = BYTES_PER_CALL
    calls_per_second: float = 100.0
    max_in_flight: int = 8
    request_timeout: float = 20.0

    def __post_init__(self) -> None:
        for name, known in (
            ("documents", get_args(Documents)),
            ("authentication", get_args(Authentication)),
        ):
            if getattr(self, name) not in known:
                raise SettingError(name, getattr(self, name), f"one of {', '.join(known)}")
        needed = {"aws": ("region",), "basic": ("user", "password")}
        for name in needed.get(self.authentication, ()):
            if not getattr(self, name):
                raise SettingError(name, None, f"one with authentication {self.authentication!r}")
        check_positive(self, "documents_per_call", "bytes_per_call", "max_in_flight")
        check_positive(self, "calls_per_second", "request_timeout")
