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
from dataclasses import replace
from functools import cache
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
from emulators.validation import Check, compile_check, violation_error

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


@cache
def _checks() -> Mapping[str, Check]:
    """The checks of the service model, from botocore's data files."""
    model = botocore.session.get_session().get_service_model("firehose")
    return {name: compile_check(model.operation_model(name).input_shape) for name in OPERATIONS}


def _check(operation: str, payload: dict[str, Any]) -> int:
    """Return the number of records of a call; raises :class:`ServiceError` above a limit."""
    violations = tuple(
        replace(
            violation, path=re.sub(r"\b[A-Z]", lambda letter: letter[0].lower(), violation.path)
        )
        for violation in _checks()[operation](payload)
    )
    if violations:
        raise ServiceError("ValidationException", violation_error(violations).message)
    texts = [record["Data"] for record in payload.get("Records", ())]
    if sum(len(text) // 4 * 3 - text[-2:].count("=") for text in texts) > MAX_CALL_BYTES:
        raise ServiceError("InvalidArgumentException", "Records size exceeds 4 MB limit")
    return len(texts)


class Firehose:
    """A WSGI application that checks and fails calls that put records.

    It passes all other calls on to another application. Called by many threads concurrently.
    """

    def __init__(
        self,
        inner: Application,
        *,
        wait: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
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
        count = _check(operation, payload)
        if fault is not None and fault.kind == "partial":
            if operation == "PutRecord":
                raise ServiceError(*SLOW_DOWN, 500)
            with self._lock:
                failed = faults.draw_failed(fault, count)
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


def _failure_entry(position: int) -> dict[str, str]:
    """The entry of a failed record; the two codes that the service documents take turns."""
    code, message = INTERNAL if position % 2 else SLOW_DOWN
    return {"ErrorCode": code, "ErrorMessage": message}
