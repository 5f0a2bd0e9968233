"""Firehose's limits and failures on demand, in front of moto, which has neither.

moto accepts any number of records of any size and stores all of them or fails. The service accepts
500 records, 1,000 KiB each and 4 MiB together, and may refuse some records of a call while it
stores the others. This module checks the limits of the service model in botocore, and the sum,
which is only in the documentation ("Amazon Data Firehose Quota").

    GET, PUT, DELETE /_local/faults    the fault plan (emulators/faults.py) for PutRecord and
                                       PutRecordBatch
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
    call,
    drop_connection,
    read_body,
    respond,
    with_body,
)
from emulators.errors import ServiceError, malformed
from emulators.faults import KINDS, Faults, InvalidPlan, Plan, Rule, read_plan

FAULTS = "/_local/faults"
TARGET = "Firehose_20150804"
OPERATIONS = ("PutRecord", "PutRecordBatch")
FAULT_KINDS = tuple(kind for kind in KINDS if kind != "in_use")
"""A delivery stream is never in use by another change."""

MAX_CALL_BYTES = 4 * 1024 * 1024
"""Of all records of one call together, before base64."""


SLOW_DOWN = ("ServiceUnavailableException", "Slow down.")
"""Firehose's error above the throughput of a stream, for a call and for a single record."""

INTERNAL = ("InternalFailure", "Internal service failure.")

_FAULT_ERRORS: Mapping[str, Callable[[], ServiceError]] = {
    "throttle": lambda: ServiceError(*SLOW_DOWN, 500),
    "error500": lambda: ServiceError(*INTERNAL, 500),
    "error503": lambda: ServiceError("ServiceUnavailable", "The service is unavailable.", 503),
    "access_denied": lambda: ServiceError(
        "AccessDeniedException", "User is not authorized to perform: firehose:PutRecordBatch"
    ),
    "expired_token": lambda: ServiceError(
        "ExpiredTokenException", "The security token included in the request is expired"
    ),
    "unrecognized_client": lambda: ServiceError(
        "UnrecognizedClientException", "The security token included in the request is invalid."
    ),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The service model's limits of a call."""

    max_records: int
    max_record_bytes: int
    name_pattern: re.Pattern[str]
    max_name_length: int

    @classmethod
    def of_model(cls) -> Limits:
        """The limits of PutRecordBatch, from botocore's data files."""
        model = botocore.session.get_session().get_service_model("firehose")
        members: Any = model.operation_model("PutRecordBatch").input_shape
        name, records = members.members["DeliveryStreamName"], members.members["Records"]
        return cls(
            max_records=records.metadata["max"],
            max_record_bytes=records.member.members["Data"].metadata["max"],
            name_pattern=re.compile(name.metadata["pattern"], re.ASCII),
            max_name_length=name.metadata["max"],
        )

    def check(self, name: object, sizes: list[int]) -> None:
        """Raises :class:`ServiceError` for a call with records of these sizes."""
        if not isinstance(name, str) or not 0 < len(name) <= self.max_name_length:
            bound = f"have length from 1 to {self.max_name_length}"
            raise _invalid(name, "deliveryStreamName", bound)
        if not self.name_pattern.fullmatch(name):
            pattern = self.name_pattern.pattern
            raise _invalid(name, "deliveryStreamName", f"satisfy regular expression: {pattern}")
        if not 0 < len(sizes) <= self.max_records:
            bound = (
                f"have length less than or equal to {self.max_records}"
                if sizes
                else "have length greater than or equal to 1"
            )
            raise _invalid(f"[{len(sizes)} records]", "records", bound)
        for position, size in enumerate(sizes, start=1):
            if size > self.max_record_bytes:
                raise _invalid(
                    f"java.nio.HeapByteBuffer[pos=0 lim={size} cap={size}]",
                    f"records.{position}.member.data",
                    f"have length less than or equal to {self.max_record_bytes}",
                )
        if sum(sizes) > MAX_CALL_BYTES:
            raise ServiceError("InvalidArgumentException", "Records size exceeds 4 MB limit")


def _invalid(value: object, path: str, constraint: str) -> ServiceError:
    return ServiceError(
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: "
        f"Member must {constraint}",
    )


class Firehose:
    """A WSGI application that checks and fails calls that put records.

    It passes all other calls on to another application. Called by many threads concurrently.
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
        except ServiceError as error:
            document = {"__type": error.code, "message": error.message}
            return respond(start_response, error.status, document)
        return respond(start_response, status, document)

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
                failed = faults.draw_failed(fault, len(sizes))
            if operation == "PutRecord":
                raise ServiceError(*SLOW_DOWN, 500)
            return self._put_others(payload, failed, environ)
        status, response = call(self._inner, with_body(environ, body))
        if fault is not None and fault.after_write:
            self._fail(fault, environ)
        return status, json.loads(response)

    def _put_others(
        self, payload: dict[str, Any], failed: frozenset[int], environ: Environ
    ) -> tuple[int, Any]:
        """Puts the other records; the response has an entry for each record, in their order."""
        records = payload["Records"]
        others = [record for position, record in enumerate(records) if position not in failed]
        stored: list[Any] = []
        if others:
            body = json.dumps({**payload, "Records": others}).encode()
            status, response = call(self._inner, with_body(environ, body))
            document = json.loads(response)
            if status != 200:
                return status, document
            stored = document["RequestResponses"]
        entries = iter(stored)
        responses = [
            _failure_entry(position) if position in failed else next(entries)
            for position in range(len(records))
        ]
        return 200, {
            "FailedPutCount": len(failed),
            "Encrypted": False,
            "RequestResponses": responses,
        }

    def _fail(self, fault: Rule, environ: Environ) -> None:
        if fault.kind == "timeout":
            self._wait(fault.seconds)
        if fault.kind in ("timeout", "disconnect"):
            drop_connection(environ)
        raise _FAULT_ERRORS[fault.kind]()

    def _control(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Reads, replaces or removes the fault plan."""
        method = environ["REQUEST_METHOD"]
        plan = Plan() if method == "DELETE" else None
        if method == "PUT":
            try:
                plan = read_plan(read_body(environ), OPERATIONS, FAULT_KINDS)
            except InvalidPlan as error:
                return respond(start_response, 400, {"message": str(error)})
        with self._lock:
            if plan is not None:
                self._faults = Faults(plan)
            return respond(start_response, 200, self._faults.report())


def _decode(body: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(body)
    except ValueError as error:
        raise malformed(str(error)) from error
    if not isinstance(payload, dict):
        raise malformed("Unexpected token: expected a structure")
    return payload


def _sizes(operation: str, payload: dict[str, Any]) -> list[int]:
    """The sizes of the records of a call, decoded from base64."""
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


def _failure_entry(position: int) -> dict[str, str]:
    """The entry of a failed record; the two codes that the service documents take turns."""
    code, message = INTERNAL if position % 2 else SLOW_DOWN
    return {"ErrorCode": code, "ErrorMessage": message}
