"""AWS's Java serializer of the Glue Schema Registry in a Kafka producer, controlled by py4j."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

from connectors.flink import java
from deploy.local import jars
from deploy.local.settings import ACCESS_KEY, REGION, REGISTRY, SECRET_KEY, LocalSettings

SETS = ("glue-client", "kafka", "dynamodb")
"""In the order of the class path: DynamoDB Local has an older Jackson than the broker."""


PACKAGE = "com.amazonaws.services.schemaregistry.serializers"


class JavaProducer:
    """Produces records of one Avro schema as a Java program does."""

    def __init__(self, jvm: Any, settings: LocalSettings, definition: str) -> None:
        self._jvm = jvm
        self._settings = settings
        self._schema = jvm.org.apache.avro.Schema.Parser().parse(definition)

    def send(self, topic: str, key: str, fields: Mapping[str, Any], **serializer: str) -> None:
        """Send a record and wait for the broker; ``serializer``: further settings of it."""
        clients = self._jvm.org.apache.kafka.clients.producer
        properties = self._properties(
            {
                **self._serializer(serializer),
                "bootstrap.servers": self._settings.kafka.address,
                "key.serializer": "org.apache.kafka.common.serialization.StringSerializer",
                "value.serializer": f"{PACKAGE}.GlueSchemaRegistryKafkaSerializer",
            }
        )
        producer = clients.KafkaProducer(properties)
        try:
            producer.send(clients.ProducerRecord(topic, key, self._record(fields))).get()
        finally:
            producer.close()

    def serialize(self, topic: str, fields: Mapping[str, Any], **serializer: str) -> bytes:
        """The value that :meth:`send` would send."""
        package = self._jvm.com.amazonaws.services.schemaregistry.serializers
        instance = package.GlueSchemaRegistryKafkaSerializer()
        instance.configure(self._properties(self._serializer(serializer)), False)
        return bytes(instance.serialize(topic, self._record(fields)))

    def _serializer(self, settings: Mapping[str, str]) -> dict[str, str]:
        return {
            "dataFormat": "AVRO",
            "region": REGION,
            "endpoint": self._settings.aws.url,
            "registry.name": REGISTRY,
            **settings,
        }

    def _properties(self, configuration: Mapping[str, str]) -> Any:
        properties = self._jvm.java.util.Properties()
        for name, value in configuration.items():
            properties.setProperty(name, value)
        return properties

    def _record(self, fields: Mapping[str, Any]) -> Any:
        record = self._jvm.org.apache.avro.generic.GenericRecordBuilder(self._schema)
        for name, value in fields.items():
            record.set(name, value)
        return record.build()


@contextmanager
def java_producer(settings: LocalSettings, definition: str) -> Iterator[JavaProducer]:
    """A producer in a Java process, which ends with the block; fetches its jars when absent."""
    cache = settings.jar_cache
    jars.fetch(jars.select_sets(jars.load(), SETS), cache, jars.repository_url(os.environ))
    port, process = launch_gateway(
        classpath=os.pathsep.join(jars.class_path(name, cache) for name in SETS),
        java_path=str(java.find(os.environ).executable),
        javaopts=[f"-Daws.accessKeyId={ACCESS_KEY}", f"-Daws.secretAccessKey={SECRET_KEY}"],
        die_on_exit=True,
        return_proc=True,
    )
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auto_convert=True))
    try:
        yield JavaProducer(gateway.jvm, settings, definition)
    finally:
        gateway.shutdown()
        process.communicate(timeout=30)
