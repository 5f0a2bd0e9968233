"""Our Signature Version 4 beside botocore's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest import mock
from urllib.parse import quote

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from connectors.aws.signature import Signature

SEED = settings(max_examples=100, derandomize=True, database=None)

seconds = st.integers(0, 4_102_444_799)  # to the end of 2099
segments = st.text(min_size=1, max_size=12).map(lambda text: quote(text, safe="*,:@!$'()+;=~"))
paths = st.lists(segments.filter(lambda one: one not in (".", "..")), max_size=4)
queries = st.lists(
    st.tuples(
        st.text("abcXYZ09_.-", min_size=1, max_size=5),
        st.text(max_size=8).map(lambda text: quote(text, safe="")),
    ),
    max_size=4,
)
secrets = st.text("ABCabc012+/=", min_size=1, max_size=60)
header_sets = st.sampled_from(
    [
        {"Content-Type": "application/json"},
        {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "Firehose_20150804.PutRecordBatch",
        },
        {"X-Amz-Meta": "between  date \t and token", "Accept": "*/*", "X-Zebra": " last "},
    ]
)


def by_botocore(
    *,
    method: str,
    url: str,
    service: str,
    region: str,
    headers: dict[str, str],
    keys: ReadOnlyCredentials,
    body: bytes,
    now: int,
) -> dict[str, str]:
    request = AWSRequest(method, url, headers=headers, data=body)
    timestamp = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=timestamp):
        botocore.auth.SigV4Auth(keys, service, region).add_auth(request)
    return dict(request.headers.items())


@SEED
@given(
    data=st.data(),
    method=st.sampled_from(["POST", "PUT"]),
    host=st.sampled_from(["firehose.us-east-1.amazonaws.com", "127.0.0.1:28400", "x.test:443"]),
    scheme=st.sampled_from(["http", "https"]),
    path=paths,
    query=queries,
    service=st.sampled_from(["firehose", "personalize", "es"]),
    region=st.sampled_from(["us-east-1", "cn-north-1"]),
    headers=header_sets,
)
def test_the_same_as_botocore(
    data: st.DataObject,
    method: str,
    host: str,
    scheme: str,
    path: list[str],
    query: list[tuple[str, str]],
    service: str,
    region: str,
    headers: dict[str, str],
) -> None:
    """Whatever the shape of the call, body, time and keys: the same headers, one call after the
    other."""
    url = f"{scheme}://{host}/{'/'.join(path)}"
    if query:
        url += "?" + "&".join(f"{key}={value}" for key, value in query)
    shape: dict[str, Any] = {"method": method, "service": service, "region": region}
    signature = Signature(url=URL(url, encoded=True), headers=headers, **shape)
    keys = None
    for _ in range(3):
        if keys is None or data.draw(st.booleans()):
            keys = ReadOnlyCredentials(
                "AKID", data.draw(secrets), data.draw(st.none() | st.just("") | secrets)
            )
        body, now = data.draw(st.binary(max_size=300)), data.draw(seconds)
        ours = signature.headers(keys, body, now + 0.7)
        expected = by_botocore(url=url, headers=headers, keys=keys, body=body, now=now, **shape)
        assert {name: ours[name] for name in expected} == expected
        assert ours.keys() - expected.keys() == {"Host"}


def signature(url: str = "https://firehose.us-east-1.amazonaws.com") -> Signature:
    return Signature(
        method="POST",
        url=URL(url, encoded=True),
        service="firehose",
        region="us-east-1",
        headers={"Content-Type": "application/json"},
    )


def test_a_new_day_and_new_keys_have_a_new_signing_key() -> None:
    """The derived key is kept for a day and a pair of keys, no longer: also back and forth."""
    one, two = (ReadOnlyCredentials("AKID", secret, None) for secret in ("one", "two"))
    signing = signature()
    calls = [(one, 86_399), (one, 86_400), (two, 86_400), (one, 86_400), (one, 86_399)]
    kept = [signing.headers(keys, b"{}", now)["Authorization"] for keys, now in calls]
    anew = [signature().headers(keys, b"{}", now)["Authorization"] for keys, now in calls]
    assert kept == anew
    assert len(set(kept)) == 3


def test_the_host_header_is_the_one_that_is_signed() -> None:
    """With a port only where it is not the default one."""
    keys = ReadOnlyCredentials("AKID", "s", None)
    assert signature("https://A.test:443/").headers(keys, b"", 0)["Host"] == "a.test"
    assert signature("http://a.test:443/").headers(keys, b"", 0)["Host"] == "a.test:443"


@pytest.mark.parametrize("path", ["/a//b", "/a/../b", "/./a", "//", "/a/.."])
def test_ambiguous_paths_are_refused(path: str) -> None:
    """Servers clean them up, or do not: the signature would be right by chance."""
    with pytest.raises(ValueError, match="an empty or a dot segment"):
        signature(f"https://a.test{path}")
