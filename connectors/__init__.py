"""The edges of the mesh: Kafka tables, the sink engine and its destinations."""
