"""Compiles the SQL of the pipelines to the plans in ``jobs/plans/``.

    python -m jobs.submission.compile --jars "$(tunemesh jars path flink)"            writes them
    python -m jobs.submission.compile --jars "$(tunemesh jars path flink)" --check    compares, exit
                                                                           code 1 if one differs

Needs Flink's Kafka SQL connector, neither a broker nor a registry: what is compiled are names.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from connectors.kafka.tables import KafkaSettings
from jobs.settings import (
    PIPELINES,
    AnalyticsSettings,
    ApplicationSettings,
    RecommendationsSettings,
    RegistrySettings,
)
from schemas.errors import TunemeshError
from schemas.model import BUILT_IN_FOLDER, Role, load_contracts


def compile_pipeline(pipeline: str, jars: Sequence[Path]) -> str:
    """Compile a pipeline; returns the text of its plan, the same text on every machine.

    Addresses and settings are none of a plan's business, so those here are only there to be
    accepted.
    """
    # Late, so that a wrong argument is reported before Flink starts a Java process.
    from jobs import analytics, enrichment, recommendations
    from jobs.environment import make_tables, register_sink
    from jobs.submission import plan

    settings = ApplicationSettings(
        pipelines=(pipeline,),
        execution_mode="process",
        group_id="tunemesh",
        kafka=KafkaSettings("plan.invalid:9092"),
        registry=RegistrySettings("us-east-1"),
        recommendations=RecommendationsSettings("plan", "plan", "plan", "us-east-1"),
        analytics=AnalyticsSettings("plan", "us-east-1", "http://plan.invalid"),
        jars=tuple(str(jar) for jar in jars),
    )
    tables = make_tables(settings, in_process=True)
    # Not what TUNEMESH_CONTRACTS adds: a plan does not depend on it.
    contracts = load_contracts((BUILT_IN_FOLDER,))
    register_sink(tables, contracts, settings, "dead_letters", Role.DEAD_LETTER)
    modules = {module.NAME: module for module in (enrichment, recommendations, analytics)}
    modules[pipeline].register(tables, contracts, (), settings)
    return plan.compile_plan(tables, pipeline)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or compare the plans; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.submission.compile", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--jars",
        required=True,
        metavar="CLASS_PATH",
        help="class path with Flink's Kafka SQL connector",
    )
    parser.add_argument(
        "--check", action="store_true", help="compare only; exit code 1 if one differs"
    )
    options = parser.parse_args(arguments)
    jars = [Path(jar) for jar in options.jars.split(os.pathsep) if jar]
    try:
        return _run(jars, check=options.check)
    except TunemeshError as error:
        print(f"tunemesh: {error}", file=sys.stderr)
        return error.exit_code


def _run(jars: Sequence[Path], *, check: bool) -> int:
    for jar in jars:
        if not jar.is_file():
            raise TunemeshError(f"there is no jar {jar}; run `tunemesh jars fetch`")
    from jobs.submission.plan import plan_file

    differing = []
    for pipeline in PIPELINES:
        file, text = plan_file(pipeline), compile_pipeline(pipeline, jars)
        same = file.exists() and file.read_text(encoding="ascii") == text
        if not same:
            differing.append(file.name)
        if not check:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="ascii")
            print(f"{'unchanged' if same else 'written'}  {file.parent.name}/{file.name}")
    if check and differing:
        raise TunemeshError(
            f"jobs/plans/{', '.join(differing)}: not what the SQL compiles to. If the change is"
            " meant, run `make plans`, commit the plans and note them in the changelog: operators"
            " whose ids changed do not find their state in a savepoint"
        )
    if check:
        print(f"{len(PIPELINES)} plans are what the SQL compiles to")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: under Python 3.12 PyFlink's callback servers cannot stop at the interpreter's
    # end and each prints a traceback. Java ends with its standard input.
    os._exit(code)
