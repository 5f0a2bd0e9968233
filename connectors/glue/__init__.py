"""The Glue Schema Registry: schema versions by id, registration, comparison."""
