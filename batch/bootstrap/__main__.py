"""The bootstrap, started: settings -> products -> the job -> CSV and report.

on Managed Flink         the service runs this file's ``main`` (property groups from the service)
on a standalone cluster  flink run --python batch/bootstrap/__main__.py --properties FILE
in this process          IS_LOCAL=true python -m batch.bootstrap --properties FILE
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from batch.bootstrap import finish, sql
from batch.bootstrap.products import read_products
from batch.bootstrap.settings import BootstrapSettings, bootstrap_settings
from batch.bootstrap.storage import storage_of
from connectors.flink.properties import ProcessSettings, properties_file, read_groups
from schemas.errors import TunemeshError
from schemas.model import load_contracts
from schemas.settings import ENVIRONMENT, read


def run(settings: BootstrapSettings, *, in_process: bool) -> dict[str, Any]:
    """Run the bootstrap, unless this run is complete; returns its report.

    What an earlier attempt of the same run has left is removed first.
    """
    contracts = load_contracts()
    storage = storage_of(settings.output, settings.region, settings.endpoint_url)
    products = read_products(contracts, settings.products, settings.columns, storage)
    complete: dict[str, Any] | None = finish.read_report(settings, products, storage)
    if complete is not None:
        return complete
    storage.remove(settings.folder)
    # Late, so that an invalid setting is reported before Flink starts a Java process.
    from batch.bootstrap.job import submit

    script = sql.script(contracts, products, settings.work, settings.window)
    submit(script, settings, in_process=in_process).wait()
    return finish.finish(settings, contracts, products, storage)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bootstrap; 0 when its output is enough for a training, else 1."""
    parser = argparse.ArgumentParser(prog="batch.bootstrap", description=__doc__.splitlines()[0])
    parser.add_argument("--properties", help="property file, as Managed Flink writes it")
    options, _ = parser.parse_known_args(arguments)
    try:
        in_process = read(ProcessSettings, {ENVIRONMENT: os.environ}).in_process
        file = properties_file(options.properties, in_process=in_process)
        report = run(bootstrap_settings(read_groups(file)), in_process=in_process)
    except TunemeshError as error:
        print(f"tunemesh: {error}", file=sys.stderr)
        return error.exit_code
    for dataset in ("users", "items", "interactions"):
        counts = ", ".join(f"{value} {name}" for name, value in report[dataset].items())
        print(f"{dataset}: {counts}")
    for problem in report["problems"]:
        print(f"tunemesh: not enough to train: {problem}", file=sys.stderr)
    return 0 if report["trainable"] else 1


if __name__ == "__main__":
    sys.exit(main())
