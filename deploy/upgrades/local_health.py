"""The health of an application on the local cluster: Flink's REST API and Kafka's offsets."""

from __future__ import annotations

from deploy.local.flink import FlinkRest, root_cause
from deploy.local.job_progress import read_job_progress
from deploy.local.settings import LocalSettings
from deploy.upgrades.target import FlowHealth, Health


def read_health(rest: FlinkRest, settings: LocalSettings, job: str) -> Health:
    """Return the health of a job that has not ended; raises FlinkError without an answer."""
    flows = {
        flow.flow: FlowHealth(
            delivered=flow.delivered or 0,
            dead_letters=flow.rejected or 0,
            behind=flow.behind,
            rate=flow.records_per_second,
        )
        for progress in read_job_progress(settings)
        if progress.id == job
        for flow in progress.flows
    }
    failures = rest.failures(job)
    return Health(
        running=rest.all_running(job),
        # The metric is absent at first, and late; the history holds about 16 entries.
        restarts=max(rest.restarts(job), len(failures)),
        checkpoints=rest.completed_checkpoints(job),
        flows=flows,
        failure=root_cause(failures[0].text) if failures else "",
    )
