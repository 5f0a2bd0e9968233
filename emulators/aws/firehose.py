"""Firehose's limits and failures on demand, in front of moto, which has neither.

moto takes any number of records of any size, stores all of them or fails, and answers at once. The
service takes 500 records, 1,000 KiB each and 4 MiB together, and may refuse some of a call's
records while it takes the others. Checked are the limits of the service model in botocore, and the
sum, which is only in the documentation ("Amazon Data Firehose Quota").

    GET, PUT, DELETE /_local/faults    the fault plan (emulators/faults.py) for
                                       PutRecord and PutRecordBatch
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import botocore.session

from emulators.aws.wsgi import (
    Application,
    Environ,
    StartResponse,
    answer,
    call,
    drop,
    read_body,
    with_body,
)
from emulators.faults import KINDS, Faults, InvalidPlan, Plan, Rule, parse_plan

FAULTS = "/_local/faults"
TARGET = "Firehose_20150804"
OPERATIONS = ("PutRecord", "PutRecordBatch")
FAULT_KINDS = tuple(kind for kind in KINDS if kind != "in_use")
"""No delivery stream is ever in use by another change."""

MOST_BYTES = 4 * 1024 * 1024
"""Of all records of one call together, before base64."""


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


SLOW_DOWN = ("ServiceUnavailableException", "Slow down.")
"""What Firehose answers beyond a stream's throughput, for a call and for a record alike."""

INTERNAL = ("InternalFailure", "Internal service failure.")

_FAULT_ERRORS: Mapping[str, Callable[[], Refused]] = {
    "throttle": lambda: Refused(*SLOW_DOWN, 500),
    "error500": lambda: Refused(*INTERNAL, 500),
    "error503": lambda: Refused("ServiceUnavailable", "The service is unavailable.", 503),
    "access_denied": lambda: Refused(
        "AccessDeniedException", "User is not authorized to perform: firehose:PutRecordBatch"
    ),
    "expired_token": lambda: Refused(
        "ExpiredTokenException", "The security token included in the request is expired"
    ),
    "unrecognized_client": lambda: Refused(
        "UnrecognizedClientException", "The security token included in the request is invalid."
    ),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service model says of a call."""

    most_records: int
    most_record_bytes: int
    stream_name: re.Pattern[str]
    longest_stream_name: int

    @classmethod
    def of_model(cls) -> Limits:
        """The limits of PutRecordBatch, from botocore's data files."""
        model = botocore.session.get_session().get_service_model("firehose")
        members: Any = model.operation_model("PutRecordBatch").input_shape
        name, records = members.members["DeliveryStreamName"], members.members["Records"]
        return cls(
            most_records=records.metadata["max"],
            most_record_bytes=records.member.members["Data"].metadata["max"],
            stream_name=re.compile(name.metadata["pattern"], re.ASCII),
            longest_stream_name=name.metadata["max"],
        )

    def check(self, name: object, sizes: list[int]) -> None:
        """Raises :class:`Refused` for a call with records of these sizes."""
        if not isinstance(name, str) or not 0 < len(name) <= self.longest_stream_name:
            most = self.longest_stream_name
            raise _invalid(name, "deliveryStreamName", f"have length from 1 to {most}")
        if not self.stream_name.fullmatch(name):
            pattern = self.stream_name.pattern
            raise _invalid(name, "deliveryStreamName", f"satisfy regular expression: {pattern}")
        if not 0 < len(sizes) <= self.most_records:
            bound = (
                f"have length less than or equal to {self.most_records}"
                if sizes
                else "have length greater than or equal to 1"
            )
            raise _invalid(f"[{len(sizes)} records]", "records", bound)
        for position, size in enumerate(sizes, start=1):
            if size > self.most_record_bytes:
                raise _invalid(
                    f"java.nio.HeapByteBuffer[pos=0 lim={size} cap={size}]",
                    f"records.{position}.member.data",
                    f"have length less than or equal to {self.most_record_bytes}",
                )
        if sum(sizes) > MOST_BYTES:
            raise Refused("InvalidArgumentException", "Records size exceeds 4 MB limit")


def _invalid(value: object, path: str, constraint: str) -> Refused:
    return Refused(
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: "
        f"Member must {constraint}",
    )


class Firehose:
    """A WSGI application around another one: checks and fails calls that put records.

    Everything else goes through as it is. Called by many threads at once.
    """

    def __init__(
        self,
        inner: Application,
        limits: Limits | None = None,
        *,
        wait: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._limits = limits or Limits.of_model()
        self._wait = wait
        self._now = now
        self._faults = Faults(Plan())
        self._lock = threading.Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == FAULTS:
            return self._control(environ, start_response)
        target, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        if target != TARGET or operation not in OPERATIONS:
            return self._inner(environ, start_response)
        try:
            status, document = self._put(operation, environ)
        except Refused as error:
            document = {"__type": error.code, "message": error.message}
            return answer(start_response, error.status, document)
        return answer(start_response, status, document)

    def _put(self, operation: str, environ: Environ) -> tuple[int, Any]:
        body = read_body(environ)
        with self._lock:
            faults = self._faults
            fault = faults.decide(operation, self._now())
        if fault is not None and fault.kind == "slow":
            self._wait(fault.seconds)
        elif fault is not None and fault.kind != "partial" and not fault.after_write:
            self._fail(fault, environ)
        payload = _decode(body)
        sizes = _sizes(operation, payload)
        self._limits.check(payload.get("DeliveryStreamName"), sizes)
        if fault is not None and fault.kind == "partial":
            with self._lock:
                lost = faults.lost(fault, len(sizes))
            if operation == "PutRecord":
                raise Refused(*SLOW_DOWN, 500)
            return self._put_rest(payload, lost, environ)
        status, answered = call(self._inner, with_body(environ, body))
        if fault is not None and fault.after_write:
            self._fail(fault, environ)
        return status, json.loads(answered)

    def _put_rest(
        self, payload: dict[str, Any], lost: frozenset[int], environ: Environ
    ) -> tuple[int, Any]:
        """Puts the records that are not lost; the answer has an entry for each, in their order."""
        records = payload["Records"]
        rest = [record for position, record in enumerate(records) if position not in lost]
        stored: list[Any] = []
        if rest:
            body = json.dumps({**payload, "Records": rest}).encode()
            status, answered = call(self._inner, with_body(environ, body))
            document = json.loads(answered)
            if status != 200:
                return status, document
            stored = document["RequestResponses"]
        entries = iter(stored)
        responses = [
            _failed(position) if position in lost else next(entries)
            for position in range(len(records))
        ]
        failed = len(lost)
        return 200, {
            "FailedPutCount": failed,
            "Encrypted": False,
            "RequestResponses": responses,
        }

    def _fail(self, fault: Rule, environ: Environ) -> None:
        if fault.kind == "timeout":
            self._wait(fault.seconds)
        if fault.kind in ("timeout", "disconnect"):
            drop(environ)
        raise _FAULT_ERRORS[fault.kind]()

    def _control(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """The fault plan: read, replaced, removed."""
        method = environ["REQUEST_METHOD"]
        plan = Plan() if method == "DELETE" else None
        if method == "PUT":
            try:
                plan = parse_plan(json.loads(read_body(environ)), OPERATIONS, FAULT_KINDS)
            except InvalidPlan as error:
                return answer(start_response, 400, {"message": str(error)})
            except ValueError as error:
                message = f"the body is not JSON: {error}"
                return answer(start_response, 400, {"message": message})
        with self._lock:
            if plan is not None:
                self._faults = Faults(plan)
            return answer(start_response, 200, self._faults.report())


def _decode(body: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(body)
    except ValueError as error:
        raise Refused("SerializationException", str(error)) from error
    if not isinstance(payload, dict):
        raise Refused("SerializationException", "Unexpected token: expected a structure")
    return payload


def _sizes(operation: str, payload: dict[str, Any]) -> list[int]:
    """The sizes of a call's records, decoded."""
    records = [payload.get("Record")] if operation == "PutRecord" else payload.get("Records")
    if not isinstance(records, list):
        raise _invalid("null", "records", "not be null")
    sizes = []
    for position, record in enumerate(records, start=1):
        data = record.get("Data") if isinstance(record, dict) else None
        if not isinstance(data, str):
            raise _invalid("null", f"records.{position}.member.data", "not be null")
        sizes.append(len(data) // 4 * 3 - data[-2:].count("="))
    return sizes


def _failed(position: int) -> dict[str, str]:
    """A lost record's entry; both codes that the service documents occur."""
    code, message = INTERNAL if position % 2 else SLOW_DOWN
    return {"ErrorCode": code, "ErrorMessage": message}
