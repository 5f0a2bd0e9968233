"""The states of Personalize's resources by time."""

from __future__ import annotations

from emulators.personalize.control.lifecycle import Resource, transition_times


def test_states_change_with_time() -> None:
    """Two steps until a resource is active, and two until it is gone."""
    resource = Resource("arn", "kind", "name", "parent", 100.0, *transition_times(100.0, 2.0))
    resource.deleted_at = 110.0
    assert {now: resource.status(now, 2.0) for now in (100, 101, 102, 103, 104, 110, 111, 112)} == {
        100: "CREATE PENDING",
        101: "CREATE PENDING",
        102: "CREATE IN_PROGRESS",
        103: "CREATE IN_PROGRESS",
        104: "ACTIVE",
        110: "DELETE PENDING",
        111: "DELETE PENDING",
        112: "DELETE IN_PROGRESS",
    }
    assert [resource.is_deleted(now, 2.0) for now in (113, 114)] == [False, True]
