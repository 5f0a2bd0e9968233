"""Requests to a domain of users or items, independent of its store.

    POST   /{domain}         create a record; the service sets an absent id
    GET    /{domain}/{id}    the record
    PUT    /{domain}/{id}    create or replace it
    DELETE /{domain}/{id}    erase it and mark it deleted; if the contract has no mark, remove it

``updated_at`` is a record's version, which only grows. The service sets it, unless the caller does
(a source with times of its own): then it must be newer than the stored one. The same record again
changes nothing and is no conflict, so a request may be repeated. ``If-Match`` with the version that
the caller has read makes a change conditional on it; the answer's ``ETag`` has the version.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from schemas.codec import Record
from services.authorization import forbidden
from services.http import Problem, Request, Response, not_allowed
from services.records import InvalidInput, Rules


@dataclass(frozen=True, slots=True)
class Change:
    """The new record; None removes it."""

    record: Record | None


Decide = Callable[[Record | None], Change | None]
"""From the stored record (None: none) to its change; None changes nothing.

Pure: a store may call it several times before one of the changes is committed.
"""


Expected = frozenset[str]
"""The versions in If-Match."""

ANY_VERSION: Expected = frozenset("*")
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')


class RecordStore(Protocol):
    """Stores a domain's records; their changes are published, in order per key."""

    def read(self, key: str) -> Record | None:
        """The record of that key. Blocks; raises Unavailable."""

    def change(self, key: str, decide: Decide) -> None:
        """Commit the change that ``decide`` returns, atomically for the key.

        Nothing is committed when it raises. Blocks; raises Unavailable, after which the change may
        have been committed.
        """


class Domain:
    """Answers the requests of one domain."""

    def __init__(self, rules: Rules, store: RecordStore, now_ms: Callable[[], int]) -> None:
        self._rules = rules
        self._store = store
        self._now_ms = now_ms

    def serve(self, request: Request) -> Response:
        """The answer to a request; raises InvalidInput, Problem, Unavailable."""
        if request.id is None:
            if request.method != "POST":
                not_allowed("POST")
            return self._create(request)
        key = self._own(request, self._rules.check_id(request.id))
        if request.method == "GET":
            return self._get(key)
        if request.method == "PUT":
            return self._put(key, request)
        if request.method == "DELETE":
            return self._delete(key, request)
        not_allowed("GET", "HEAD", "PUT", "DELETE")

    def _own(self, request: Request, key: str) -> str:
        """The key of a record that the caller may see or change; raises Problem."""
        if request.acting_for not in (None, key):
            raise forbidden()
        return key

    def _get(self, key: str) -> Response:
        record = self._store.read(key)
        if record is None or self._rules.is_deleted(record):
            raise self._absent(key)
        return self._response(HTTPStatus.OK, record)

    def _create(self, request: Request) -> Response:
        given = request.json()
        name = self._rules.contract.key
        if isinstance(given, dict) and name not in given:
            given = {name: request.acting_for or str(uuid.uuid4()), **given}
        wanted = self._rules.completed(given)
        key = self._own(request, self._rules.check_id(wanted[name]))
        created = wanted

        def decide(current: Record | None) -> Change | None:
            nonlocal created
            if current is not None and not self._rules.is_deleted(current):
                if current == self._with_version_of(wanted, current):
                    created = current
                    return None
                raise Problem(HTTPStatus.CONFLICT, "exists", f"there is already a {key!r}", name)
            created = self._next(wanted, current)
            return Change(created)

        self._store.change(key, decide)
        headers = {"location": f"/{self._rules.contract.name}/{key}"}
        return self._response(HTTPStatus.CREATED, created, headers)

    def _put(self, key: str, request: Request) -> Response:
        given = request.json()
        name = self._rules.contract.key
        if isinstance(given, dict) and given.setdefault(name, key) != key:
            raise InvalidInput("wrong_id", f"the path says {key!r}", name)
        expected = self._expected(request)
        wanted = self._rules.completed(given)
        stored: Record = {}
        status = HTTPStatus.OK

        def decide(current: Record | None) -> Change | None:
            nonlocal stored, status
            self._check_expected(expected, current)
            status = HTTPStatus.CREATED if current is None else HTTPStatus.OK
            if current is not None and wanted == current:
                stored = current
                return None
            stored = self._next(wanted, current)
            return Change(stored)

        self._store.change(key, decide)
        return self._response(status, stored)

    def _delete(self, key: str, request: Request) -> Response:
        expected = self._expected(request)

        def decide(current: Record | None) -> Change | None:
            self._check_expected(expected, current)
            if current is None or self._rules.is_erased(current):
                raise self._absent(key)
            if self._rules.deleted is None:
                return Change(None)
            deleted = {**self._rules.erased(current), self._rules.deleted: True}
            if self._rules.updated is not None:
                deleted[self._rules.updated] = None
            return Change(self._next(deleted, current))

        self._store.change(key, decide)
        return Response(HTTPStatus.NO_CONTENT)

    def _next(self, wanted: Record, current: Record | None) -> Record:
        """The record to store, with its version; raises Problem for an older one."""
        now = self._now_ms()
        updated = self._rules.updated
        if updated is not None:
            given = wanted[updated]
            former = None if current is None else current[updated]
            if given is None:
                wanted = {**wanted, updated: now if former is None else max(now, former + 1)}
            elif former is not None and given <= former:
                raise Problem(
                    HTTPStatus.CONFLICT,
                    "version_conflict",
                    f"the stored version is {former}, which is not older than {given}",
                    updated,
                )
        self._rules.check(wanted, now)
        return wanted

    def _with_version_of(self, wanted: Record, current: Record) -> Record:
        """The wanted record; without a version of its own, with that of ``current``."""
        updated = self._rules.updated
        if updated is None or wanted[updated] is not None:
            return wanted
        return {**wanted, updated: current[updated]}

    def _expected(self, request: Request) -> Expected | None:
        """The versions in If-Match; None without it. Raises InvalidInput.

        RFC 9110, 13.1.1: ``*`` is any version; a weak tag equals none.
        """
        text = request.headers.get("if-match")
        if text is None:
            return None
        if text.strip() == "*":
            return ANY_VERSION
        if self._rules.updated is None:
            raise InvalidInput(
                "no_versions",
                f"records of {self._rules.contract.name} have no versions",
                "if-match",
            )
        tags = [tag.strip() for tag in text.split(",")]
        if not all(_ENTITY_TAG.fullmatch(tag) for tag in tags):
            raise InvalidInput(
                "invalid_value", f"{text!r} is neither * nor a list of ETags", "if-match"
            )
        return frozenset(tag.strip('"') for tag in tags if not tag.startswith("W/"))

    def _check_expected(self, expected: Expected | None, current: Record | None) -> None:
        if expected is None:
            return
        version = None if current is None else self._rules.version(current)
        is_met = current is not None and (expected is ANY_VERSION or str(version) in expected)
        if not is_met:
            raise Problem(
                HTTPStatus.PRECONDITION_FAILED,
                "version_conflict",
                "the record does not exist"
                if current is None
                else f"the stored version is {version}, which If-Match does not have",
                "if-match",
            )

    def _absent(self, key: str) -> Problem:
        return Problem(
            HTTPStatus.NOT_FOUND,
            "not_found",
            f"{self._rules.contract.name} has no {key!r}",
            self._rules.contract.key,
        )

    def _response(
        self, status: HTTPStatus, record: Record, headers: dict[str, str] | None = None
    ) -> Response:
        version = self._rules.version(record)
        tag = {} if version is None else {"etag": f'"{version}"'}
        return Response(status, record, {**tag, **(headers or {})})
