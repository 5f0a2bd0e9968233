"""The imports against the real process of the local Personalize, over boto3."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from batch.deletions.batches import Batches
from batch.deletions.run import Erasure, run_deletions
from batch.deletions.users import DeletedUsers
from batch.imports.calls import Calls, Pace
from batch.imports.errors import ImportsError
from batch.imports.output import read_output
from batch.imports.plan import FILTERS, DatasetType, ImportSettings, Mode
from batch.imports.run import Imported, run_imports
from cli.bootstrap import bootstrap
from connectors.products.location import Location
from tests.support.bootstrap_output import ROLE, S3, SCHEMAS, interactions, s3_running, schema
from tests.support.personalize_server import ANSWER_SECONDS, ARN, Server, running
from tests.support.waiting import LIMIT_SECONDS, wait_until

PACE = Pace(first_poll=0.01, max_poll=0.05, max_wait=LIMIT_SECONDS, patience=60.0)


CHANGES = frozenset(
    f"create_{noun}"
    for noun in (
        *("schema", "dataset_group", "dataset", "event_tracker", "dataset_import_job"),
        *("solution", "solution_version", "campaign", "filter", "data_deletion_job"),
    )
)


class Killed(BaseException):
    """The process that runs the imports ends here."""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_running() as found:
        yield found


@pytest.fixture(scope="module")
def server(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("personalize")
    options = ("--s3-endpoint", s3.url, "--step-seconds", "0.005")
    with running(data, *options) as found:
        yield found


def client(server: Server) -> Any:
    """One that does not retry."""
    return server.client("personalize")


def imported(
    server: Server,
    s3: S3,
    location: str,
    name: str,
    mode: Mode = Mode.FULL,
    made: Any = None,
    lines: list[str] | None = None,
    **settings: Any,
) -> Imported:
    """A whole run."""
    calls = Calls(made or client(server), PACE)
    chosen = ImportSettings(role_arn=ROLE, name=name, mode=mode, **settings)
    say: Callable[[str], None] = (lambda line: None) if lines is None else lines.append
    return run_imports(calls, chosen, SCHEMAS, read_output(s3.client, location, mode), say)


def recommended(server: Server, result: Imported, count: int, **members: Any) -> list[int]:
    """The numbers of the items that a user's recommendations have, in their order."""
    asked = {"campaignArn": result.campaign, "userId": "u000", "numResults": count, **members}
    answer = server.runtime.get_recommendations(**asked)
    return [int(item["itemId"][1:]) for item in answer["itemList"]]


class Counting:
    """A client that notes its calls, and ends the process before or after one that changes
    something: the `kill_at`-th."""

    def __init__(self, inner: Any, kill_at: int | None = None, *, after: bool = False) -> None:
        self._inner = inner
        self._kill_at = kill_at
        self._after = after
        self.made: list[str] = []

    def __getattr__(self, operation: str) -> Any:
        def call(**members: Any) -> Any:
            self.made.append(operation)
            changes = [one for one in self.made if one in CHANGES]
            is_last = operation in CHANGES and len(changes) == self._kill_at
            if is_last and not self._after:
                raise Killed
            answer = getattr(self._inner, operation)(**members)
            if is_last:
                raise Killed
            return answer

        return call


def state(server: Server, name: str) -> dict[str, Any]:
    """Everything of one dataset group, without what is random or a time."""
    service = client(server)
    (group,) = [g for g in service.list_dataset_groups()["datasetGroups"] if g["name"] == name]
    arn = group["datasetGroupArn"]
    found: dict[str, Any] = {"status": group["status"]}
    for dataset in service.list_datasets(datasetGroupArn=arn)["datasets"]:
        jobs = service.list_dataset_import_jobs(datasetArn=dataset["datasetArn"])
        described = service.describe_dataset(datasetArn=dataset["datasetArn"])["dataset"]
        found[dataset["datasetType"]] = (
            dataset["status"],
            described["schemaArn"].replace(name, "NAME"),
            [
                (job["jobName"].replace(name, "NAME"), job["status"], job["importMode"])
                for job in jobs["datasetImportJobs"]
            ],
        )
    trackers = service.list_event_trackers(datasetGroupArn=arn)["eventTrackers"]
    found["trackers"] = [tracker["status"] for tracker in trackers]
    found["filters"] = sorted(
        (entry["name"].replace(name, "NAME"), entry["status"])
        for entry in service.list_filters(datasetGroupArn=arn)["Filters"]
    )
    for solution in service.list_solutions(datasetGroupArn=arn)["solutions"]:
        versions = service.list_solution_versions(solutionArn=solution["solutionArn"])
        campaigns = service.list_campaigns(solutionArn=solution["solutionArn"])["campaigns"]
        found["solution"] = (
            solution["status"],
            [version["status"] for version in versions["solutionVersions"]],
            [
                (campaign["name"].replace(name, "NAME"), campaign["status"])
                for campaign in campaigns
            ],
        )
    found["counts"] = server.stats()["groups"][name]["imported"]
    return found


def test_a_bootstrap_output_becomes_a_campaign_that_knows_its_listeners(
    server: Server, s3: S3
) -> None:
    """Counts as in the files, and each listener gets their own taste."""
    lines: list[str] = []
    location = s3.put_output("first")
    result = imported(server, s3, location, "first", lines=lines)
    counts = server.stats()["groups"]["first"]["imported"]
    assert counts == {"users": 60, "items": 40, "interactions": 1200}
    for user, first, last in (("u000", 0, 19), ("u001", 20, 39)):
        numbers = recommended(server, result, 10, userId=user)
        assert len(numbers) == 10
        assert all(first <= number <= last for number in numbers), (user, numbers)
    assert any(line.startswith("the import of interactions: started as") for line in lines)
    assert any(line.startswith("the training: started as") for line in lines)


def test_a_second_run_makes_nothing(server: Server, s3: S3) -> None:
    """All of it is found: no call but List and Describe, and the same result."""
    location = s3.put_output("again")
    first = imported(server, s3, location, "again")
    counting = Counting(client(server))
    assert imported(server, s3, location, "again", made=counting) == first
    assert {operation.split("_")[0] for operation in counting.made} == {"list", "describe"}


def test_a_run_that_was_killed_anywhere_ends_as_one_that_was_not(server: Server, s3: S3) -> None:
    """Before each call that changes something, and after it, its answer lost.

    Between two such calls there is nothing but questions: ended there, it is as before the next.
    """
    location = s3.put_output("killed")
    filters = {"genres": FILTERS["genres"]}
    counting = Counting(client(server))
    imported(server, s3, location, "whole", made=counting, filters=filters)
    wanted = state(server, "whole")
    assert wanted["solution"][1] == ["ACTIVE"]
    changes = sum(operation in CHANGES for operation in counting.made)
    assert changes == 15
    for number in range(1, changes + 1):
        for after in (False, True):
            name = f"killed{number}{'after' if after else 'before'}"
            made = Counting(client(server), number, after=after)
            with pytest.raises(Killed):
                imported(server, s3, location, name, made=made, filters=filters)
            imported(server, s3, location, name, filters=filters)
            assert state(server, name) == wanted, f"killed at {made.made[-1]}, after={after}"


def test_the_default_group_takes_an_import_and_the_stream_goes_on(server: Server, s3: S3) -> None:
    """Its schemas are replaced, its campaign deploys the training, and what is put counts."""
    result = imported(server, s3, s3.put_output("default"), "tunemesh")
    assert result.tracking_id == "tunemesh-local-tracker"
    assert result.campaign.endswith(":campaign/tunemesh")
    assert result.datasets[DatasetType.ITEMS].endswith(":dataset/tunemesh/ITEMS")
    before = recommended(server, result, 5)
    for number in range(30):
        server.events.put_events(
            trackingId=result.tracking_id,
            userId="u000",
            sessionId="s",
            eventList=[
                {
                    "eventId": f"e{number}",
                    "eventType": "like",
                    "itemId": f"i{20 + number % 4:03d}",
                    "sentAt": 1_763_000_000 + number,
                }
            ],
        )
    after = recommended(server, result, 5)
    assert before != after
    assert all(number >= 20 for number in after)


def test_another_content_is_imported_and_deployed(server: Server, s3: S3) -> None:
    """FULL replaces; the campaign moves on to the new version; going back imports again."""
    first = s3.put_output("one")
    second = s3.put_output("two", plays=interactions(1_500))
    one = imported(server, s3, first, "moves")
    two = imported(server, s3, second, "moves")
    assert two.campaign == one.campaign
    assert two.solution_version != one.solution_version
    assert two.import_jobs[DatasetType.USERS] == one.import_jobs[DatasetType.USERS]
    assert server.stats()["groups"]["moves"]["imported"]["interactions"] == 1500
    back = imported(server, s3, first, "moves")
    assert server.stats()["groups"]["moves"]["imported"]["interactions"] == 1200
    assert back.import_jobs[DatasetType.INTERACTIONS] != one.import_jobs[DatasetType.INTERACTIONS]


def test_an_incremental_run_adds_once(server: Server, s3: S3) -> None:
    """Users with the same id are replaced, interactions are added, a second run adds nothing."""
    imported(server, s3, s3.put_output("base"), "grows")
    more = s3.put_output(
        "more",
        users=[("u000", "it"), ("u999", "es")],
        items=[],
        plays=interactions(1_000, start=1_770_000_000),
    )
    first = imported(server, s3, more, "grows", Mode.INCREMENTAL)
    again = imported(server, s3, more, "grows", Mode.INCREMENTAL)
    assert again == first
    counts = server.stats()["groups"]["grows"]["imported"]
    assert counts == {"users": 61, "items": 40, "interactions": 2200}
    rows = server.request("/_local/imported/users?group=grows&limit=100")[1].splitlines()
    countries = {row["USER_ID"]: row["COUNTRY"] for row in map(json.loads, rows)}
    assert (countries["u000"], countries["u999"], countries["u001"]) == ("it", "es", "de")


def test_a_failed_import_says_why_and_is_tried_again_when_mended(server: Server, s3: S3) -> None:
    """The service's reason, naming the file and the line; the mended file is another attempt."""
    broken = s3.put_output("broken")
    key = "bootstrap/broken/interactions/part-00000.csv"
    good = s3.client.get_object(Bucket="bulk", Key=key)["Body"].read()
    s3.put(key, good.replace(b",1760000002,", b",1760000002000,"))
    with pytest.raises(ImportsError) as raised:
        imported(server, s3, broken, "mends")
    assert "CREATE FAILED" in str(raised.value)
    assert "part-00000.csv, line 3: TIMESTAMP is '1760000002000'" in str(raised.value)
    assert "run the same command again" in str(raised.value)
    s3.put(key, good)
    imported(server, s3, broken, "mends")
    assert server.stats()["groups"]["mends"]["imported"]["interactions"] == 1200


def test_throttling_and_failures_of_the_service_are_waited_out(server: Server, s3: S3) -> None:
    """A third of the calls is throttled or fails, some after they took effect."""
    location = s3.put_output("trouble")
    server.use_faults(
        {"operation": "*", "kind": "throttle", "rate": 0.2},
        {"operation": "*", "kind": "error500", "rate": 0.1, "after_write": True},
        {"operation": "*", "kind": "disconnect", "rate": 0.05},
    )
    try:
        imported(server, s3, location, "trouble")
    finally:
        server.request("/_local/faults", "DELETE")
    imported(server, s3, location, "calm")
    assert state(server, "trouble") == state(server, "calm")


def erased(
    server: Server, s3: S3, name: str, users: DeletedUsers, made: Any = None, **options: Any
) -> Erasure:
    """A run of data deletions, with batches in a bucket of its own."""
    bucket = f"deletions-{name}"
    s3.client.create_bucket(Bucket=bucket)
    return run_deletions(
        Calls(made or client(server), PACE),
        ImportSettings(role_arn=ROLE, name=name),
        Batches(s3.client, Location(bucket, "jobs/")),
        users,
        now_ms=lambda: 1_000,
        **options,
    )


def test_deleted_users_are_erased_once_and_from_what_was_trained(server: Server, s3: S3) -> None:
    """Their recommendations are those of an unknown user; another model is trained without them."""
    result = imported(server, s3, s3.put_output("gone"), "gone")
    unknown = recommended(server, result, 10, userId="unknown")
    for user in ("u000", "u001"):
        assert recommended(server, result, 10, userId=user) != unknown
    users = DeletedUsers({"u000": 5, "u001": 6, "USER_ID": 7}, {"u002": 8})
    first = erased(server, s3, "gone", users)
    (batch,) = first.batches
    assert (batch.result or {})["deleted"] == 2 + 2 * 20
    assert first.unlistable == 1
    after = recommended(server, result, 10, userId="unknown")
    for user in ("u000", "u001"):
        assert recommended(server, result, 10, userId=user) == after
    assert recommended(server, result, 10, userId="u002") != after
    counts = server.stats()["groups"]["gone"]["imported"]
    assert counts == {"users": 58, "items": 40, "interactions": 1_160}

    counting = Counting(client(server))
    assert erased(server, s3, "gone", users, counting).batches == ()
    assert not [one for one in counting.made if one in CHANGES]
    # Deleted once more, by the domain and by hand; several files.
    twice = DeletedUsers({**users.gone, "u000": 9})
    assert [dict(b.deletions) for b in erased(server, s3, "gone", twice).batches] == [{"u000": 9}]
    again = erased(server, s3, "gone", twice, again=True, max_bytes=20).batches
    assert [dict(b.deletions) for b in again] == [{"u000": 9}, {"u001": 6}]


def test_data_deletions_that_were_killed_anywhere_end_as_others(server: Server, s3: S3) -> None:
    """Before each call that changes something, and after it, on S3 and at the service."""
    location = s3.put_output("cut")
    users = DeletedUsers({"u000": 5, "u001": 6})
    for number, after in ((1, False), (1, True)):
        name = f"cut{number}{'after' if after else 'before'}"
        imported(server, s3, location, name)
        with pytest.raises(Killed):
            erased(server, s3, name, users, Counting(client(server), number, after=after))
        (batch,) = erased(server, s3, name, users).batches
        assert dict(batch.deletions) == users.gone
        jobs = client(server).list_data_deletion_jobs(
            datasetGroupArn=f"arn:aws:personalize:us-east-1:000000000000:dataset-group/{name}"
        )["dataDeletionJobs"]
        assert [(job["jobName"][:-15], job["status"]) for job in jobs] == [
            (f"{name}-deletion", "COMPLETED")
        ]
        assert server.stats()["groups"][name]["imported"]["users"] == 58


def test_a_data_deletion_waits_for_an_import_and_names_unknown_groups(
    server: Server, s3: S3
) -> None:
    """The service does not guarantee a deletion beside an import."""
    result = imported(server, s3, s3.put_output("busy"), "busy")
    location = s3.put_output("busy2", plays=interactions(30_000))
    client(server).create_dataset_import_job(
        jobName="beside",
        datasetArn=result.datasets[DatasetType.INTERACTIONS],
        dataSource={"dataLocation": f"{location}interactions/"},
        roleArn=ROLE,
    )
    lines: list[str] = []
    erased(server, s3, "busy", DeletedUsers({"u000": 5}), progress=lines.append)
    assert lines[0] == "waiting for 1 imports and trainings"
    assert server.stats()["groups"]["busy"]["imported"]["interactions"] == 30_000 - 500
    with pytest.raises(ImportsError, match=r"no dataset group 'none'; there are: .*busy"):
        erased(server, s3, "none", DeletedUsers({"u": 5}))


def test_filters_are_made_and_made_anew_when_they_change(server: Server, s3: S3) -> None:
    """Recommendations by genre, and without what the listener has skipped."""
    location = s3.put_output("filters")
    result = imported(server, s3, location, "filters")
    genres = {"filterArn": result.filters["genres"], "filterValues": {"GENRES": '"jazz"'}}
    jazz = recommended(server, result, 40, **genres)
    assert {number >= 20 for number in jazz} == {True}
    heard = recommended(server, result, 40, filterArn=result.filters["not-skipped"])
    assert set(recommended(server, result, 40)) - set(heard) == {3}
    expression = "EXCLUDE ItemID WHERE Items.GENRES IN ($GENRES)"
    changed = imported(server, s3, location, "filters", filters={"genres": expression})
    found = client(server).describe_filter(filterArn=changed.filters["genres"])
    assert found["filter"]["filterExpression"] == expression


def test_what_was_imported_and_trained_outlives_the_server(
    s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Killed in the middle of an import, the server begins it anew; the campaign answers again."""
    data = tmp_path_factory.mktemp("durable")
    options = ("--s3-endpoint", s3.url, "--step-seconds", "0.005")
    location = s3.put_output("durable")
    with running(data, *options) as server:
        result = imported(server, s3, location, "durable")
        wanted = recommended(server, result, 10)
        second = s3.put_output("durable2", plays=interactions(60_000))
        output = read_output(s3.client, second, Mode.FULL)
        client(server).create_dataset_import_job(
            jobName="by-hand",
            datasetArn=result.datasets[DatasetType.INTERACTIONS],
            dataSource={"dataLocation": output.folder(DatasetType.INTERACTIONS)},
            roleArn=ROLE,
        )
        server.process.kill()
        server.process.communicate(timeout=ANSWER_SECONDS)
    with running(data, *options) as server:
        assert recommended(server, result, 10) == wanted
        service = client(server)

        def is_active() -> bool:
            arn = f"{ARN}:dataset-import-job/by-hand"
            job = service.describe_dataset_import_job(datasetImportJobArn=arn)
            return bool(job["datasetImportJob"]["status"] == "ACTIVE")

        wait_until(is_active, "the import that was under way")
        assert server.stats()["groups"]["durable"]["imported"]["interactions"] == 60_000


def test_another_interactions_schema_is_refused_with_what_to_do(server: Server, s3: S3) -> None:
    """The service never replaces that schema."""
    location = s3.put_output("schemas")
    imported(server, s3, location, "schemas")
    other = schema(
        "Interactions",
        {"name": "USER_ID", "type": "string"},
        {"name": "ITEM_ID", "type": "string"},
        {"name": "TIMESTAMP", "type": "long"},
    )
    calls = Calls(client(server), PACE)
    with pytest.raises(ImportsError, match="Choose another name"):
        run_imports(
            calls,
            ImportSettings(role_arn=ROLE, name="schemas"),
            replace(SCHEMAS, interactions=other),
            read_output(s3.client, location, Mode.FULL),
        )


def test_the_command_imports_a_finished_output(
    server: Server, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its schemas from files; a schema that is none is refused."""
    monkeypatch.setenv("TUNEMESH_HOME", str(tmp_path))
    monkeypatch.setenv("TUNEMESH_PERSONALIZE_PORT", str(server.port))
    monkeypatch.setenv("TUNEMESH_AWS_PORT", s3.url.rpartition(":")[2])
    for name in ("users", "items", "interactions"):
        (tmp_path / f"{name}.json").write_text(getattr(SCHEMAS, name))
    schemas = ["--schemas", str(tmp_path)]
    place = ["--from", s3.put_output("finished")]
    runner = CliRunner()
    result = runner.invoke(bootstrap, [*schemas, *place, "--name", "finished"])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "reports" / "imports.json").read_text())
    assert report["campaign"].endswith(":campaign/finished")
    assert set(report["datasets"]) == {"users", "items", "interactions"}
    assert report["tracking_id"] in result.output
    (tmp_path / "items.json").write_text("{")
    with pytest.raises(ImportsError, match=r"items\.json is not JSON"):
        runner.invoke(bootstrap, [*schemas, *place], catch_exceptions=False)
