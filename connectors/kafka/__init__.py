"""Kafka: the tables of Flink's Kafka connector, and offsets read through librdkafka."""
