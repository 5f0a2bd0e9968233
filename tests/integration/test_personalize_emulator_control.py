"""The contract of the local Personalize's control plane, driven through boto3 against the real
process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.bootstrap_output import (
    ITEMS,
    ROLE,
    S3,
    SCHEMAS,
    columns,
    csv,
    interactions,
    s3_running,
    schema,
)
from tests.support.personalize_server import ARN, CAMPAIGN, Server, running
from tests.support.waiting import wait_until

RECIPE = "arn:aws:personalize:::recipe/aws-user-personalization-v2"
SECONDS = 20.0


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_running() as found:
        yield found


@pytest.fixture(scope="module")
def server(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("control")
    with running(data, "--s3-endpoint", s3.url, "--step-seconds", "0.01") as found:
        yield found


@pytest.fixture(scope="module")
def service(server: Server) -> Any:
    return server.client("personalize")


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """The code and the message of a refusal, which is an HTTP 400 as in JSON 1.1."""
    with pytest.raises(ClientError) as raised:
        call()
    answer = raised.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    return answer["Error"]["Code"], answer["Error"]["Message"]


def until(describe: Callable[[], dict[str, Any]], status: str = "ACTIVE") -> dict[str, Any]:
    """What is described once it has this status; asserts that it does not end otherwise."""
    found: dict[str, Any] = {}

    def has_it() -> bool:
        found.update(next(v for k, v in describe().items() if k != "ResponseMetadata"))
        assert found["status"] == status or found["status"].startswith(("CREATE P", "CREATE I"))
        return bool(found["status"] == status)

    wait_until(has_it, status, SECONDS)
    return found


def made_group(service: Any, name: str) -> str:
    arn: str = service.create_dataset_group(name=name)["datasetGroupArn"]
    until(lambda: service.describe_dataset_group(datasetGroupArn=arn))
    return arn


def made_dataset(service: Any, group: str, kind: str, text: str) -> str:
    name = f"{group.rpartition('/')[2]}-{kind}"
    of = service.create_schema(name=name, schema=text)["schemaArn"]
    arn: str = service.create_dataset(
        name=name, schemaArn=of, datasetGroupArn=group, datasetType=kind
    )["datasetArn"]
    until(lambda: service.describe_dataset(datasetArn=arn))
    return arn


def imported(service: Any, name: str, dataset: str, location: str, mode: str = "FULL") -> str:
    arn: str = service.create_dataset_import_job(
        jobName=name,
        datasetArn=dataset,
        dataSource={"dataLocation": location},
        roleArn=ROLE,
        importMode=mode,
    )["datasetImportJobArn"]
    return arn


def failure(service: Any, job: str) -> str:
    found = until(
        lambda: service.describe_dataset_import_job(datasetImportJobArn=job), "CREATE FAILED"
    )
    return str(found["failureReason"])


def plays(s3: S3, key: str, rows: list[tuple[Any, ...]]) -> str:
    return s3.put(key, csv(columns(SCHEMAS.interactions), rows))


def test_what_the_stream_needs_is_there_from_the_start(service: Any) -> None:
    """By the ARNs and the tracking id that nothing has to create, and it stays."""
    group = f"{ARN}:dataset-group/tunemesh"
    found = service.describe_dataset_group(datasetGroupArn=group)["datasetGroup"]
    assert (found["name"], found["status"]) == ("tunemesh", "ACTIVE")
    datasets = service.list_datasets(datasetGroupArn=group)["datasets"]
    assert {entry["datasetArn"] for entry in datasets} == {
        f"{ARN}:dataset/tunemesh/{kind}" for kind in ("USERS", "ITEMS", "INTERACTIONS")
    }
    (tracker,) = service.list_event_trackers(datasetGroupArn=group)["eventTrackers"]
    arn = tracker["eventTrackerArn"]
    described = service.describe_event_tracker(eventTrackerArn=arn)["eventTracker"]
    assert described["trackingId"] == "tunemesh-local-tracker"
    assert service.describe_campaign(campaignArn=CAMPAIGN)["campaign"]["status"] == "ACTIVE"
    code, message = refused(lambda: service.delete_campaign(campaignArn=CAMPAIGN))
    assert (code, "from the start" in message) == ("ResourceInUseException", True)


def test_a_schema_is_kept_as_it_was_sent_and_its_name_is_taken(service: Any) -> None:
    """Its rules are in the unit tests; its length is the model's."""
    arn = service.create_schema(name="kept", schema=SCHEMAS.users)["schemaArn"]
    assert arn == f"{ARN}:schema/kept"
    assert service.describe_schema(schemaArn=arn)["schema"]["schema"] == SCHEMAS.users
    again = refused(lambda: service.create_schema(name="kept", schema=SCHEMAS.items))
    assert again[0] == "ResourceAlreadyExistsException"
    wrong = refused(lambda: service.create_schema(name="wrong", schema="{}"))
    assert wrong[0] == "InvalidInputException"
    long = json.dumps({**json.loads(SCHEMAS.users), "doc": "x" * 20_000})
    code, message = refused(lambda: service.create_schema(name="long", schema=long))
    assert code == "InvalidInputException"
    assert "less than or equal to 20000" in message


@pytest.mark.parametrize(
    "call",
    [
        lambda service: service.create_dataset_group(name="ä"),
        lambda service: service.create_dataset_group(name="x" * 64),
        lambda service: service.create_dataset_group(name="shop", domain="ECOMMERCE"),
        lambda service: service.create_dataset_group(
            name="tagged", tags=[{"tagKey": "a", "tagValue": "b"}]
        ),
        lambda service: service.list_dataset_groups(maxResults=101),
        lambda service: service.describe_schema(schemaArn="x"),
        lambda service: service.list_recipes(),
        lambda service: service.delete_dataset_group(datasetGroupArn="x" * 300),
    ],
)
def test_limits_of_the_model_and_what_is_not_offered_are_refused(
    service: Any, call: Callable[[Any], object]
) -> None:
    """Names, patterns, counts; domains, tags, recipes."""
    assert refused(lambda: call(service))[0] == "InvalidInputException"


@pytest.mark.parametrize(
    ("operation", "member"),
    [
        ("describe_schema", "schemaArn"),
        ("describe_dataset_group", "datasetGroupArn"),
        ("describe_dataset", "datasetArn"),
        ("describe_dataset_import_job", "datasetImportJobArn"),
        ("describe_event_tracker", "eventTrackerArn"),
        ("describe_solution", "solutionArn"),
        ("describe_solution_version", "solutionVersionArn"),
        ("describe_campaign", "campaignArn"),
        ("describe_filter", "filterArn"),
        ("delete_filter", "filterArn"),
    ],
)
def test_what_does_not_exist_is_not_found(service: Any, operation: str, member: str) -> None:
    """An ARN of another kind is not found either."""
    for arn in (f"{ARN}:nothing/here", f"{ARN}:dataset-group/none"):
        code, _ = refused(partial(getattr(service, operation), **{member: arn}))
        assert code == "ResourceNotFoundException"


def test_lists_have_pages(service: Any) -> None:
    """In the order of creation; a token that no list gave is refused."""
    for number in range(3):
        service.create_dataset_group(name=f"page{number}")
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        answer = service.list_dataset_groups(maxResults=2, **token)
        assert len(answer["datasetGroups"]) <= 2
        found += [group["name"] for group in answer["datasetGroups"]]
        if "nextToken" not in answer:
            break
        token = {"nextToken": answer["nextToken"]}
    assert [name for name in found if name.startswith("page")] == ["page0", "page1", "page2"]
    assert len(set(found)) == len(found)
    assert refused(lambda: service.list_dataset_groups(nextToken="x"))[0] == (
        "InvalidNextTokenException"
    )


def test_states_go_by_the_clock_and_what_is_not_active_cannot_be_used(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """CREATE PENDING, CREATE IN_PROGRESS, ACTIVE, DELETE PENDING, DELETE IN_PROGRESS, gone."""
    with running(tmp_path_factory.mktemp("slow"), "--step-seconds", "0.5") as slow:
        service = slow.client("personalize")
        arn = service.create_dataset_group(name="slow")["datasetGroupArn"]
        used = refused(lambda: service.create_event_tracker(name="early", datasetGroupArn=arn))
        assert used[0] == "ResourceInUseException"
        assert refused(lambda: service.delete_dataset_group(datasetGroupArn=arn))[0] == (
            "ResourceInUseException"
        )
        seen: list[str] = []

        def status() -> str:
            try:
                answer = service.describe_dataset_group(datasetGroupArn=arn)
            except ClientError as error:
                return str(error.response["Error"]["Code"])
            return str(answer["datasetGroup"]["status"])

        def ends(last: str) -> bool:
            seen.append(status())
            return seen[-1] == last

        wait_until(lambda: ends("ACTIVE"), "ACTIVE", SECONDS)
        service.delete_dataset_group(datasetGroupArn=arn)
        wait_until(lambda: ends("ResourceNotFoundException"), "gone", SECONDS)
        assert list(dict.fromkeys(seen)) == [
            "CREATE PENDING",
            "CREATE IN_PROGRESS",
            "ACTIVE",
            "DELETE PENDING",
            "DELETE IN_PROGRESS",
            "ResourceNotFoundException",
        ]
        service.create_dataset_group(name="slow")


def test_a_dataset_has_a_schema_of_its_type_and_a_group_one_of_each(service: Any) -> None:
    """The ARN names group and type, so a second one of a type exists already."""
    group = made_group(service, "types")
    arn = made_dataset(service, group, "Users", SCHEMAS.users)
    assert arn == f"{ARN}:dataset/types/USERS"
    of = f"{ARN}:schema/types-Users"

    def create(kind: str) -> object:
        return service.create_dataset(
            name="other", schemaArn=of, datasetGroupArn=group, datasetType=kind
        )

    assert refused(lambda: create("Users"))[0] == "ResourceAlreadyExistsException"
    assert refused(lambda: create("Items"))[0] == "InvalidInputException"
    assert refused(lambda: create("Actions"))[0] == "InvalidInputException"
    assert refused(lambda: service.delete_schema(schemaArn=of))[0] == "ResourceInUseException"
    more = schema(
        "Users",
        *json.loads(SCHEMAS.users)["fields"],
        {"name": "AGE", "type": ["null", "int"]},
    )
    other = service.create_schema(name="types-more", schema=more)["schemaArn"]
    service.update_dataset(datasetArn=arn, schemaArn=other)
    assert service.describe_dataset(datasetArn=arn)["dataset"]["schemaArn"] == other
    back = refused(lambda: service.update_dataset(datasetArn=arn, schemaArn=of))
    assert (back[0], "AGE was removed" in back[1]) == ("InvalidInputException", True)
    service.delete_schema(schemaArn=of)


def test_a_group_has_one_event_tracker_and_events_go_to_its_group(
    server: Server, service: Any
) -> None:
    """Put with its id they are the group's alone; without the tracker nothing can be put."""
    group = made_group(service, "tracked")
    made = service.create_event_tracker(name="tracked", datasetGroupArn=group)
    for name, code in (
        ("tracked", "ResourceAlreadyExistsException"),
        ("two", "LimitExceededException"),
    ):
        again = {"name": name, "datasetGroupArn": group}
        assert refused(partial(service.create_event_tracker, **again))[0] == code
    arn = made["eventTrackerArn"]
    until(lambda: service.describe_event_tracker(eventTrackerArn=arn))
    before = server.stats()["accepted_events"]

    def put() -> None:
        server.events.put_events(
            trackingId=made["trackingId"],
            sessionId="s",
            eventList=[
                {"eventId": "e", "eventType": "play", "itemId": "i", "sentAt": 1_763_000_000}
            ],
        )

    put()
    assert server.stats()["accepted_events"] == before
    assert server.stats()["groups"]["tracked"]["accepted_events"] == 1
    (row,) = server.request("/_local/events?group=tracked")[1].splitlines()
    assert json.loads(row)["event_id"] == "e"
    service.delete_event_tracker(eventTrackerArn=arn)
    with pytest.raises(ClientError, match="InvalidInputException"):
        put()


def test_imports_read_a_file_or_a_folder_and_say_why_they_fail(s3: S3, service: Any) -> None:
    """The service's rules, with the file and the line; what fails changes nothing."""
    group = made_group(service, "reads")
    dataset = made_dataset(service, group, "Interactions", SCHEMAS.interactions)
    rows = interactions(1_000)
    short = plays(s3, "reads/short.csv", rows[:999])
    assert "999 interactions" in failure(service, imported(service, "short", dataset, short))
    later = imported(service, "early", dataset, short, "INCREMENTAL")
    assert "must have the mode FULL" in failure(service, later)
    assert "no CSV file" in failure(
        service, imported(service, "none", dataset, "s3://bulk/nothing/")
    )
    assert "cannot list" in failure(service, imported(service, "nob", dataset, "s3://none/x/"))
    s3.put("reads/other/notes.txt", b"x")
    other = imported(service, "other", dataset, "s3://bulk/reads/other/")
    assert "notes.txt is not a CSV file" in failure(service, other)
    s3.put("reads/latin.csv", b"USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE,EVENT_VALUE,DEVICE\n\xff")
    latin = imported(service, "latin", dataset, "s3://bulk/reads/latin.csv")
    assert "not in UTF-8" in failure(service, latin)
    whole = imported(service, "whole", dataset, plays(s3, "reads/whole.csv", rows))
    found = until(lambda: service.describe_dataset_import_job(datasetImportJobArn=whole))
    assert found["importMode"] == "FULL"
    listed = service.list_dataset_import_jobs(datasetArn=dataset)["datasetImportJobs"]
    assert [job["jobName"] for job in listed][-2:] == ["latin", "whole"]
    assert all("failureReason" in job for job in listed[:-1])
    again = refused(lambda: imported(service, "whole", dataset, short))
    assert again[0] == "ResourceAlreadyExistsException"


def test_five_imports_may_be_under_way(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The sixth is refused until one has ended."""
    options = ("--s3-endpoint", s3.url, "--step-seconds", "0.6")
    with running(tmp_path_factory.mktemp("five"), *options) as slow:
        service = slow.client("personalize")
        dataset = f"{ARN}:dataset/tunemesh/INTERACTIONS"
        location = plays(s3, "five.csv", interactions(1_000))
        for number in range(5):
            imported(service, f"job{number}", dataset, location)
        assert refused(lambda: imported(service, "job5", dataset, location))[0] == (
            "LimitExceededException"
        )


def test_full_does_not_replace_what_was_put(server: Server, s3: S3, service: Any) -> None:
    """Put records and imported ones are both known to a filter; the put one wins."""
    group = made_group(service, "both")
    dataset = made_dataset(service, group, "Items", SCHEMAS.items)
    server.events.put_items(
        datasetArn=dataset,
        items=[
            {"itemId": "i000", "properties": '{"genres":"folk"}'},
            {"itemId": "put", "properties": '{"genres":"rock"}'},
        ],
    )
    header = columns(SCHEMAS.items)
    location = s3.put("both.csv", csv(header, ITEMS))
    job = imported(service, "both", dataset, location)
    until(lambda: service.describe_dataset_import_job(datasetImportJobArn=job))
    counts = server.stats()["groups"]["both"]
    assert (counts["items"], counts["imported"]["items"]) == (2, 40)


def test_training_has_minimums_and_a_campaign_a_trained_version(
    server: Server, s3: S3, service: Any
) -> None:
    """A failed training says why; nothing but an ACTIVE version is deployed."""
    group = made_group(service, "trains")
    dataset = made_dataset(service, group, "Interactions", SCHEMAS.interactions)

    def solution(**members: Any) -> Any:
        asked = {"recipeArn": RECIPE, "performAutoTraining": False, **members}
        return service.create_solution(name="trains", datasetGroupArn=group, **asked)

    for wrong in (
        {"performAutoTraining": True},
        {"performAutoML": True},
        {"recipeArn": "arn:aws:personalize:::recipe/aws-sims"},
        {"solutionConfig": {"algorithmHyperParameters": {"a": "b"}}},
    ):
        assert refused(partial(solution, **wrong))[0] == "InvalidInputException"
    arn = solution()["solutionArn"]
    until(lambda: service.describe_solution(solutionArn=arn))
    untrained = service.create_solution_version(solutionArn=arn)["solutionVersionArn"]
    found = until(
        lambda: service.describe_solution_version(solutionVersionArn=untrained), "CREATE FAILED"
    )
    assert "0 interactions to train on" in found["failureReason"]
    campaign = refused(lambda: service.create_campaign(name="trains", solutionVersionArn=untrained))
    assert campaign[0] == "InvalidInputException"
    job = imported(service, "trains", dataset, plays(s3, "trains.csv", interactions()))
    until(lambda: service.describe_dataset_import_job(datasetImportJobArn=job))
    version = service.create_solution_version(name="first", solutionArn=arn)["solutionVersionArn"]
    until(lambda: service.describe_solution_version(solutionVersionArn=version))
    made = service.create_campaign(name="trains", solutionVersionArn=version)["campaignArn"]
    until(lambda: service.describe_campaign(campaignArn=made))
    answer = server.runtime.get_personalized_ranking(
        campaignArn=made, userId="u000", inputList=["i030", "i012", "unknown"]
    )
    assert [item["itemId"] for item in answer["personalizedRanking"]] == ["i012", "i030", "unknown"]
    assert refused(lambda: service.delete_solution(solutionArn=arn))[0] == "ResourceInUseException"
    service.delete_campaign(campaignArn=made)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        server.runtime.get_recommendations(campaignArn=made, userId="u000")


def test_a_group_goes_when_all_in_it_is_gone(server: Server, s3: S3, service: Any) -> None:
    """Its data goes along, and a group of the same name begins empty."""
    group = made_group(service, "goes")
    dataset = made_dataset(service, group, "Interactions", SCHEMAS.interactions)
    job = imported(service, "goes", dataset, plays(s3, "goes.csv", interactions()))
    until(lambda: service.describe_dataset_import_job(datasetImportJobArn=job))
    assert refused(lambda: service.delete_dataset_group(datasetGroupArn=group))[0] == (
        "ResourceInUseException"
    )
    service.delete_dataset(datasetArn=dataset)
    wait_until(
        lambda: not service.list_datasets(datasetGroupArn=group)["datasets"], "gone", SECONDS
    )
    service.delete_dataset_group(datasetGroupArn=group)

    def is_gone() -> bool:
        groups = service.list_dataset_groups()["datasetGroups"]
        return group not in [one["datasetGroupArn"] for one in groups]

    wait_until(is_gone, "the group's end", SECONDS)
    made_group(service, "goes")
    assert server.stats()["groups"]["goes"]["imported"]["interactions"] == 0


def test_a_filter_is_of_its_group_and_there_are_ten(server: Server, service: Any) -> None:
    """What is not understood, and one too many, are refused."""
    group = made_group(service, "filtered")
    made_dataset(service, group, "Items", SCHEMAS.items)

    def create(name: str, expression: str) -> Any:
        return service.create_filter(name=name, datasetGroupArn=group, filterExpression=expression)[
            "filterArn"
        ]

    expression = "INCLUDE ItemID WHERE Items.GENRES IN ($GENRES)"
    code, message = refused(lambda: create("and", f"{expression} AND Items.GENRES IN ($X)"))
    assert (code, "does not offer" in message) == ("InvalidInputException", True)
    arns = [create(f"filter{number}", expression) for number in range(10)]
    assert refused(lambda: create("filter10", expression))[0] == "LimitExceededException"
    until(lambda: service.describe_filter(filterArn=arns[0]))
    asked = {"campaignArn": CAMPAIGN, "userId": "u1", "filterArn": arns[0]}
    values = {"GENRES": '"rock"'}
    with pytest.raises(ClientError, match="another dataset group"):
        server.runtime.get_recommendations(**asked, filterValues=values)
    service.delete_filter(filterArn=arns[0])
    with pytest.raises(ClientError, match=r"ResourceNotFound|InvalidInput"):
        server.runtime.get_recommendations(**asked, filterValues=values)


def test_what_was_created_outlives_a_kill(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What was answered is there again, with its tracking id."""
    data = tmp_path_factory.mktemp("kept")
    with running(data, "--step-seconds", "0.01") as first:
        service = first.client("personalize")
        group = made_group(service, "kept")
        made = service.create_event_tracker(name="kept", datasetGroupArn=group)
        first.process.kill()
        first.process.communicate(timeout=20)
    with running(data, "--step-seconds", "0.01") as second:
        service = second.client("personalize")
        (tracker,) = service.list_event_trackers(datasetGroupArn=group)["eventTrackers"]
        assert tracker["eventTrackerArn"] == made["eventTrackerArn"]
        until(lambda: service.describe_event_tracker(eventTrackerArn=made["eventTrackerArn"]))
        second.events.put_events(
            trackingId=made["trackingId"],
            sessionId="s",
            eventList=[{"eventType": "play", "itemId": "i", "sentAt": 1_763_000_000}],
        )
        assert second.stats()["groups"]["kept"]["accepted_events"] == 1
