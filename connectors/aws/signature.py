"""Signature Version 4 for calls of a fixed shape, in a few microseconds.

botocore's signer parses each request, a tenth of a millisecond of Python a call: at a thousand
calls a second a tenth of a core. Here everything that does not change between two calls is prepared
once: method, path, query, names and values of the fixed headers, and for a day and a pair of keys
the derived signing key. A test compares the result with botocore's.

The rules are those of "Create a signed AWS API request" in the AWS Identity and Access Management
User Guide.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from hashlib import sha256
from hmac import digest
from typing import Final
from urllib.parse import quote

from botocore.credentials import ReadOnlyCredentials
from yarl import URL

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_DATE: Final = "x-amz-date"
_TOKEN: Final = "x-amz-security-token"


class Signature:
    """Signs calls that differ in their body only.

    `url` is percent-encoded, as it is sent. `headers` are sent with every call and signed. Raises
    ValueError for a path with empty or dot segments, which servers and signers may understand
    differently.
    """

    def __init__(
        self, *, method: str, url: URL, service: str, region: str, headers: Mapping[str, str]
    ) -> None:
        path = url.raw_path or "/"
        if any(segment in ("", ".", "..") for segment in path.split("/")[1:-1]) or path.endswith(
            ("/.", "/..")
        ):
            raise ValueError(f"the path {path!r} has an empty or a dot segment")
        self._fixed = {**headers, "Host": (url.host_port_subcomponent or "").lower()}
        lines = {
            name.lower(): f"{name.lower()}:{' '.join(value.split())}\n"
            for name, value in self._fixed.items()
        }
        names = sorted(lines)
        query = "&".join(
            "=".join(pair)
            for pair in sorted(
                (key, value)
                for key, _, value in (
                    part.partition("=") for part in url.raw_query_string.split("&") if part
                )
            )
        )
        # All services but S3 sign the path encoded once more.
        self._head = f"{method}\n{quote(path, safe='/~')}\n{query}\n" + "".join(
            lines[name] for name in names if name < _DATE
        )
        self._middle = "".join(lines[name] for name in names if _DATE < name < _TOKEN)
        self._tail = "".join(lines[name] for name in names if name > _TOKEN)
        self._signed = ";".join(sorted([*names, _DATE]))
        self._signed_with_token = ";".join(sorted([*names, _DATE, _TOKEN]))
        self._scope_end = f"/{region}/{service}/aws4_request"
        self._second = -1
        self._date_and_time = self._day = self._scope = ""
        self._keys: ReadOnlyCredentials | None = None
        self._key = b""

    def headers(self, keys: ReadOnlyCredentials, body: bytes, now: float) -> dict[str, str]:
        """All headers of the call with this body; `now` is in seconds since 1970."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._date_and_time = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        date_and_time = self._date_and_time
        if keys is not self._keys or not date_and_time.startswith(self._day):
            self._derive_key(keys, date_and_time[:8])
        headers = {**self._fixed, "X-Amz-Date": date_and_time}
        signed, token_line = self._signed, ""
        if keys.token:
            headers["X-Amz-Security-Token"] = keys.token
            signed, token_line = self._signed_with_token, f"{_TOKEN}:{keys.token}\n"
        canonical = (
            f"{self._head}{_DATE}:{date_and_time}\n{self._middle}{token_line}{self._tail}"
            f"\n{signed}\n{sha256(body).hexdigest()}"
        )
        to_sign = (
            f"{_ALGORITHM}\n{date_and_time}\n{self._scope}\n"
            f"{sha256(canonical.encode()).hexdigest()}"
        )
        signature = digest(self._key, to_sign.encode(), "sha256").hex()
        headers["Authorization"] = (
            f"{_ALGORITHM} Credential={keys.access_key}/{self._scope}, "
            f"SignedHeaders={signed}, Signature={signature}"
        )
        return headers

    def _derive_key(self, keys: ReadOnlyCredentials, day: str) -> None:
        key = f"AWS4{keys.secret_key}".encode()
        for part in (day + self._scope_end).split("/"):
            key = digest(key, part.encode(), "sha256")
        self._keys, self._day, self._key = keys, day, key
        self._scope = day + self._scope_end
