"""The id of a job, chosen before its submission."""

from __future__ import annotations

from connectors.flink.internals.version import check_version

JOB_ID_KEY = "$internal.pipeline.job-id"
"""PipelineOptionsInternal.PIPELINE_FIXED_JOB_ID."""


def job_id_configuration(job: str) -> dict[str, str]:
    """Return Flink's configuration for a submission under this id; raises InternalsError.

    A version that ignored the key would start a job that an upgrade does not find.
    """
    check_version()
    return {JOB_ID_KEY: job}
