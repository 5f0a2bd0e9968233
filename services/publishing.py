"""Records to a domain's topic: encoded by its contract, acknowledged by all replicas, in order.

The producer is idempotent, so its retries neither repeat nor reorder messages. It has no time-out:
the caller sets the time to wait, and messages that are not acknowledged by then are withdrawn. They
may have arrived all the same: delivery is at least once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer

from connectors.glue.registry import RegistryUnavailable
from schemas.codec import Encoder, Record, VersionIds
from schemas.model import Contract
from services.http import Unavailable

NOT_ACKNOWLEDGED = "not acknowledged in time"
_DENIED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
_POLL_SECONDS = 0.05


class PublishingDenied(Exception):
    """The broker does not authorise this process: no later attempt is allowed either."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a domain: its key, and the record; None is a tombstone."""

    contract: Contract
    key: str
    record: Record | None


class Publisher(Protocol):
    """Publishes messages; :class:`TopicPublisher` does."""

    def publish(self, messages: Sequence[Message], seconds: float) -> list[str | None]:
        """Return the problem of each message; None for one that is published."""


class TopicPublisher:
    """Publishes messages. Thread safe."""

    def __init__(
        self, bootstrap_servers: str, ids: VersionIds, client: Mapping[str, str] | None = None
    ) -> None:
        """``client`` are properties of librdkafka, such as those of security."""
        self._configuration: dict[str, Any] = {
            **(client or {}),
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": 0,
            "linger.ms": 2,
            # Reconnect within a second to a broker that has returned.
            "reconnect.backoff.max.ms": 1_000,
        }
        self._ids = ids
        self._lock = threading.Lock()
        self._encoders: dict[str, Encoder] = {}
        self._producer: Producer | None = None

    def publish(
        self,
        messages: Sequence[Message],
        seconds: float,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> list[str | None]:
        """Send messages in their order; returns the problem of each, None if acknowledged.

        Blocks until each has its answer, at most ``seconds``. ``meanwhile`` is called many times a
        second during the wait; when it raises, nothing more is sent. Raises InvalidRecord before
        anything is sent when one does not fit its contract, Unavailable when the registry does not
        answer, RegistryError when it refuses, PublishingDenied.
        """
        values = [self._encoded(message) for message in messages]
        meanwhile()  # the registry may have answered slowly
        producer = self._current()
        answers = _Answers(len(messages))
        deadline = time.monotonic() + seconds
        try:
            for index, (message, value) in enumerate(zip(messages, values, strict=True)):
                try:
                    self._produce(producer, message, value, answers.callback(index), deadline)
                except (KafkaException, BufferError) as error:
                    answers.note(index, str(error))
                if answers.failed:
                    break  # later messages must not overtake it
            while not answers.is_complete and not answers.failed and time.monotonic() < deadline:
                producer.poll(_POLL_SECONDS)
                meanwhile()
        finally:
            if answers.failed or not answers.is_complete:
                self._withdraw(producer)
        if answers.denial is not None:
            raise PublishingDenied(answers.denial)
        return answers.problems

    def _produce(
        self,
        producer: Producer,
        message: Message,
        value: bytes | None,
        on_delivery: Callable[..., None],
        deadline: float,
    ) -> None:
        while True:
            try:
                producer.produce(
                    message.contract.topic,
                    key=message.key.encode(),
                    value=value,
                    on_delivery=on_delivery,
                )
                return
            except BufferError:
                if time.monotonic() >= deadline:
                    raise
                producer.poll(_POLL_SECONDS)

    def _encoded(self, message: Message) -> bytes | None:
        if message.record is None:
            return None
        contract = message.contract
        encoder = self._encoders.get(contract.name)
        if encoder is None:
            try:
                encoder = Encoder(contract, self._ids.version_id(contract))
            except RegistryUnavailable as error:
                raise Unavailable(str(error)) from error
            self._encoders[contract.name] = encoder
        return encoder.encode(message.record)

    def _current(self) -> Producer:
        with self._lock:
            if self._producer is None:
                self._producer = Producer(self._configuration)
            return self._producer

    def _withdraw(self, producer: Producer) -> None:
        """Withdraw messages under way; the next messages use another producer."""
        with self._lock:
            if self._producer is producer:
                self._producer = None
        producer.purge()
        producer.poll(0)


class _Answers:
    """The broker's answers to messages; noted by any thread that polls the producer."""

    def __init__(self, count: int) -> None:
        self.problems: list[str | None] = [NOT_ACKNOWLEDGED] * count
        self.failed = False
        self.denial: str | None = None
        # Its length is the number of answers: appending is atomic for threads.
        self._noted: list[int] = []

    @property
    def is_complete(self) -> bool:
        """Whether each message has its answer."""
        return len(self._noted) == len(self.problems)

    def note(self, index: int, problem: str | None) -> None:
        """Note the answer to a message: its problem, or None."""
        self.problems[index] = problem
        self.failed = self.failed or problem is not None
        self._noted.append(index)

    def callback(self, index: int) -> Callable[[KafkaError | None, object], None]:
        """The callback of the producer for the answer to a message."""

        def note(error: KafkaError | None, message: object) -> None:
            if error is not None and error.code() in _DENIED:
                self.denial = str(error)
            self.note(index, None if error is None else str(error))

        return note
