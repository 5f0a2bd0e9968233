"""An emulator of the API of Managed Service for Apache Flink (kinesisanalyticsv2), for tests."""
