"""All use of what Flink does not promise to keep: private fields, internal classes and keys.

Each module is one internal and checks the version first. tests/flink/test_internals.py has a test
for each that fails when Flink changes; docs/concepts/flink-workarounds.md says when each may go.
"""
