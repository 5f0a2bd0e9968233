"""Where OpenSearch is, how to prove who we are, and how fast to write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from connectors.opensearch.documents import BYTES_PER_CALL, DOCUMENTS_PER_CALL

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
    calls_per_second     the pace to begin with and to come back to. OpenSearch has no quota: it
                         says when it is too much, and the engine slows down
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
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}"
                )
        if self.authentication == "aws" and not self.region:
            raise ValueError("region is missing; expected one with authentication 'aws'")
        if self.authentication == "basic" and not (self.user and self.password):
            raise ValueError(
                "user or password is missing; expected both with authentication 'basic'"
            )
        for name in ("documents_per_call", "bytes_per_call", "max_in_flight"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("calls_per_second", "request_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number above 0")
