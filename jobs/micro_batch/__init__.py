"""The text format of micro-batches between Flink SQL and the delivery functions."""
