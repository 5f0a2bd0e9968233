"""The contract of the control plane of the Personalize emulator, tested with boto3."""

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
from tests.support.personalize_server import ANSWER_SECONDS, ARN, CAMPAIGN, Server, running
from tests.support.waiting import wait_until

GROUP = f"{ARN}:dataset-group/tunemesh"
RECIPE = "arn:aws:personalize:::recipe/aws-user-personalization-v2"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_running() as s3:
        yield s3


@pytest.fixture(scope="module")
def server(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("control")
    with running(data, "--s3-endpoint", s3.url, "--step-seconds", "0.01") as server:
        yield server


@pytest.fixture(scope="module")
def service(server: Server) -> Any:
    return server.client("personalize")


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """The code and the message of an error, which has HTTP status 400 as in JSON 1.1."""
    with pytest.raises(ClientError) as raised:
        call()
    response = raised.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return response["Error"]["Code"], response["Error"]["Message"]


def assert_refused(code: str, call: Callable[[], object]) -> None:
    assert refused(call)[0] == code


def wait_for(describe: Callable[[], dict[str, Any]], status: str = "ACTIVE") -> dict[str, Any]:
    """The description, once it has this status; asserts that it gets no other final status."""
    resource: dict[str, Any] = {}

    def has_status() -> bool:
        resource.update(next(v for k, v in describe().items() if k != "ResponseMetadata"))
        current = resource["status"]
        assert current == status or current.removeprefix("CREATE ") in ("PENDING", "IN_PROGRESS")
        return bool(current == status)

    wait_until(has_status, status)
    return resource


def create_group(service: Any, name: str) -> str:
    arn: str = service.create_dataset_group(name=name)["datasetGroupArn"]
    wait_for(lambda: service.describe_dataset_group(datasetGroupArn=arn))
    return arn


def create_dataset(service: Any, group: str, kind: str, text: str) -> str:
    name = f"{group.rpartition('/')[2]}-{kind}"
    schema_arn = service.create_schema(name=name, schema=text)["schemaArn"]
    arn: str = service.create_dataset(
        name=name, schemaArn=schema_arn, datasetGroupArn=group, datasetType=kind
    )["datasetArn"]
    wait_for(lambda: service.describe_dataset(datasetArn=arn))
    return arn


def start_import(service: Any, name: str, dataset: str, location: str, mode: str = "FULL") -> str:
    arn: str = service.create_dataset_import_job(
        jobName=name,
        datasetArn=dataset,
        dataSource={"dataLocation": location},
        roleArn=ROLE,
        importMode=mode,
    )["datasetImportJobArn"]
    return arn


def wait_for_failure(service: Any, job: str) -> str:
    resource = wait_for(
        lambda: service.describe_dataset_import_job(datasetImportJobArn=job), "CREATE FAILED"
    )
    return str(resource["failureReason"])


def put_interactions(s3: S3, key: str, rows: list[tuple[Any, ...]]) -> str:
    return s3.put(key, csv(columns(SCHEMAS.interactions), rows))


def test_the_resources_of_the_stream_exist_from_the_start(service: Any) -> None:
    """With fixed ARNs and a fixed tracking id; they cannot be deleted."""
    group = f"{ARN}:dataset-group/tunemesh"
    resource = service.describe_dataset_group(datasetGroupArn=group)["datasetGroup"]
    assert (resource["name"], resource["status"]) == ("tunemesh", "ACTIVE")
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


def test_a_schema_is_stored_unchanged_and_its_name_is_unique(service: Any) -> None:
    """The unit tests test its rules; its maximum length is that of the model."""
    arn = service.create_schema(name="stored", schema=SCHEMAS.users)["schemaArn"]
    assert arn == f"{ARN}:schema/stored"
    assert service.describe_schema(schemaArn=arn)["schema"]["schema"] == SCHEMAS.users
    create = service.create_schema
    assert_refused(
        "ResourceAlreadyExistsException", lambda: create(name="stored", schema=SCHEMAS.items)
    )
    assert_refused("InvalidInputException", lambda: create(name="wrong", schema="{}"))
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
        lambda service: service.list_recipes(domain="ECOMMERCE"),
        lambda service: service.tag_resource(resourceArn=GROUP, tags=[]),
        lambda service: service.delete_dataset_group(datasetGroupArn="x" * 300),
    ],
)
def test_invalid_and_unsupported_members_are_refused(
    service: Any, call: Callable[[Any], object]
) -> None:
    """Limits of the model: names, patterns, counts. Not offered: domains and tags."""
    assert_refused("InvalidInputException", lambda: call(service))


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
def test_unknown_resources_are_not_found(service: Any, operation: str, member: str) -> None:
    """Nor is a resource of another kind."""
    for arn in (f"{ARN}:nothing/here", f"{ARN}:dataset-group/none"):
        call = partial(getattr(service, operation), **{member: arn})
        assert_refused("ResourceNotFoundException", call)


def test_lists_have_pages(service: Any) -> None:
    """In the order of creation; an unknown token is refused."""
    for number in range(3):
        service.create_dataset_group(name=f"page{number}")
    names: list[str] = []
    token: dict[str, str] = {}
    while True:
        response = service.list_dataset_groups(maxResults=2, **token)
        assert len(response["datasetGroups"]) <= 2
        names += [group["name"] for group in response["datasetGroups"]]
        if "nextToken" not in response:
            break
        token = {"nextToken": response["nextToken"]}
    assert [name for name in names if name.startswith("page")] == ["page0", "page1", "page2"]
    assert len(set(names)) == len(names)
    assert_refused("InvalidNextTokenException", lambda: service.list_dataset_groups(nextToken="x"))


@pytest.fixture(scope="module")
def slow_service(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An emulator whose resources become active after the tests."""
    options = ("--s3-endpoint", s3.url, "--step-seconds", "600")
    with running(tmp_path_factory.mktemp("slow"), *options) as slow:
        yield slow.client("personalize")


def test_only_active_resources_can_be_used(slow_service: Any) -> None:
    """Or deleted."""
    arn = slow_service.create_dataset_group(name="slow")["datasetGroupArn"]
    described = slow_service.describe_dataset_group(datasetGroupArn=arn)["datasetGroup"]
    assert described["status"] == "CREATE PENDING"
    for call in (
        partial(slow_service.create_event_tracker, name="early"),
        slow_service.delete_dataset_group,
    ):
        assert_refused("ResourceInUseException", partial(call, datasetGroupArn=arn))


def test_a_group_has_one_dataset_of_each_type_with_a_schema_of_that_type(service: Any) -> None:
    """The group and the type are in the ARN, so a second dataset of a type exists already."""
    group = create_group(service, "types")
    arn = create_dataset(service, group, "Users", SCHEMAS.users)
    assert arn == f"{ARN}:dataset/types/USERS"
    schema_arn = f"{ARN}:schema/types-Users"

    def create(kind: str) -> object:
        return service.create_dataset(
            name="other", schemaArn=schema_arn, datasetGroupArn=group, datasetType=kind
        )

    assert_refused("ResourceAlreadyExistsException", lambda: create("Users"))
    assert_refused("InvalidInputException", lambda: create("Items"))
    assert_refused("InvalidInputException", lambda: create("Actions"))
    assert_refused("ResourceInUseException", lambda: service.delete_schema(schemaArn=schema_arn))
    extended = schema(
        "Users", *json.loads(SCHEMAS.users)["fields"], {"name": "AGE", "type": ["null", "int"]}
    )
    other = service.create_schema(name="types-extended", schema=extended)["schemaArn"]
    service.update_dataset(datasetArn=arn, schemaArn=other)
    assert service.describe_dataset(datasetArn=arn)["dataset"]["schemaArn"] == other
    code, message = refused(lambda: service.update_dataset(datasetArn=arn, schemaArn=schema_arn))
    assert (code, "AGE was removed" in message) == ("InvalidInputException", True)
    service.delete_schema(schemaArn=schema_arn)


def test_a_group_has_one_event_tracker_for_its_events(server: Server, service: Any) -> None:
    """Events with its id are stored in the group only; after its deletion they are refused."""
    group = create_group(service, "tracked")
    tracker = service.create_event_tracker(name="tracked", datasetGroupArn=group)
    for name, code in (
        ("tracked", "ResourceAlreadyExistsException"),
        ("two", "LimitExceededException"),
    ):
        create = partial(service.create_event_tracker, name=name, datasetGroupArn=group)
        assert_refused(code, create)
    arn = tracker["eventTrackerArn"]
    wait_for(lambda: service.describe_event_tracker(eventTrackerArn=arn))
    before = server.stats()["accepted_events"]

    def put() -> None:
        server.events.put_events(
            trackingId=tracker["trackingId"],
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


def test_imports_read_a_file_or_a_folder_and_report_why_they_fail(s3: S3, service: Any) -> None:
    """By the service's rules; a failed import changes nothing."""
    group = create_group(service, "reads")
    dataset = create_dataset(service, group, "Interactions", SCHEMAS.interactions)
    rows = interactions(1_000)
    short = put_interactions(s3, "reads/short.csv", rows[:999])
    s3.put("reads/other/notes.txt", b"x")
    latin = b"USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE,EVENT_VALUE,DEVICE\n\xff"
    for name, location, mode, reason in (
        ("short", short, "FULL", "999 interactions"),
        ("early", short, "INCREMENTAL", "must have the mode FULL"),
        ("none", "s3://bulk/nothing/", "FULL", "no CSV file"),
        ("nob", "s3://none/x/", "FULL", "cannot list"),
        ("other", "s3://bulk/reads/other/", "FULL", "notes.txt is not a CSV file"),
        ("latin", s3.put("reads/latin.csv", latin), "FULL", "not in UTF-8"),
    ):
        assert reason in wait_for_failure(
            service, start_import(service, name, dataset, location, mode)
        )
    full = start_import(service, "full", dataset, put_interactions(s3, "reads/full.csv", rows))
    resource = wait_for(lambda: service.describe_dataset_import_job(datasetImportJobArn=full))
    assert resource["importMode"] == "FULL"
    listed = service.list_dataset_import_jobs(datasetArn=dataset)["datasetImportJobs"]
    assert [job["jobName"] for job in listed][-2:] == ["latin", "full"]
    assert all("failureReason" in job for job in listed[:-1])
    assert_refused(
        "ResourceAlreadyExistsException", lambda: start_import(service, "full", dataset, short)
    )


def start_deletion(service: Any, name: str, group: str, location: str) -> str:
    arn: str = service.create_data_deletion_job(
        jobName=name, datasetGroupArn=group, dataSource={"dataLocation": location}, roleArn=ROLE
    )["dataDeletionJobArn"]
    return arn


def test_five_imports_and_five_data_deletions_may_be_unfinished(s3: S3, slow_service: Any) -> None:
    """The sixth is refused."""
    dataset = f"{ARN}:dataset/tunemesh/INTERACTIONS"
    plays = put_interactions(s3, "five.csv", interactions(1_000))
    group, users = f"{ARN}:dataset-group/tunemesh", s3.put("five/users.csv", b"USER_ID\nu\n")
    for start, parent, location in ((start_import, dataset, plays), (start_deletion, group, users)):
        for number in range(5):
            start(slow_service, f"job{number}", parent, location)
        assert_refused(
            "LimitExceededException", partial(start, slow_service, "job5", parent, location)
        )


def test_a_data_deletion_job_erases_users_and_what_they_did(
    server: Server, s3: S3, service: Any
) -> None:
    """Put and imported rows of these users alone; listed with the most recent job first."""
    group = create_group(service, "erased")
    users = create_dataset(service, group, "Users", SCHEMAS.users)
    plays = create_dataset(service, group, "Interactions", SCHEMAS.interactions)
    rows = csv(columns(SCHEMAS.users), [("u1", "de"), ("u2", "")])
    for job in (
        start_import(service, "u", users, s3.put("er/u.csv", rows)),
        start_import(service, "i", plays, put_interactions(s3, "er/i.csv", interactions(1_000))),
    ):
        wait_for(partial(service.describe_dataset_import_job, datasetImportJobArn=job))
    server.events.put_users(datasetArn=users, users=[{"userId": u} for u in ("u001", "u002")])
    tracker = service.create_event_tracker(name="erased", datasetGroupArn=group)
    arn = tracker["eventTrackerArn"]
    wait_for(lambda: service.describe_event_tracker(eventTrackerArn=arn))
    for user in ("u001", "u002"):
        event = {"eventType": "play", "itemId": "i", "sentAt": 1_760_000_000}
        server.events.put_events(
            trackingId=tracker["trackingId"], userId=user, sessionId="s", eventList=[event]
        )

    s3.put("er/gone/a.csv", b"USER_ID\nu1\nu001\n")
    s3.put("er/gone/b.csv", b"USER_ID\nu003\nnobody\n")
    job = start_deletion(service, "gone", group, "s3://bulk/er/gone/")
    described = wait_for(
        lambda: service.describe_data_deletion_job(dataDeletionJobArn=job), "COMPLETED"
    )
    # u1, the 17 and 16 imported plays of u001 and u003, u001 and its event.
    assert described["numDeleted"] == 1 + 17 + 17 + 2
    assert (described["jobName"], described["datasetGroupArn"]) == ("gone", group)
    left = [
        server.request(f"/_local/{table}?group=erased&limit=2000")[1].decode()
        for table in ("users", "events", "imported/users", "imported/interactions")
    ]
    for user in ("u1", "u001", "u003"):
        assert not any(f'"{user}"' in text for text in left)
    assert [text.count('"u002"') for text in left] == [1, 1, 0, 17]
    stats = server.stats()["groups"]["erased"]
    assert (stats["users"], stats["accepted_events"]) == (1, 1)
    assert stats["imported"] == {"users": 1, "items": 0, "interactions": 1_000 - 34}

    start_deletion(service, "later", group, "s3://bulk/er/gone/")
    listed = service.list_data_deletion_jobs(datasetGroupArn=group)["dataDeletionJobs"]
    assert [entry["jobName"] for entry in listed] == ["later", "gone"]
    assert_refused(
        "ResourceAlreadyExistsException",
        lambda: start_deletion(service, "gone", group, "s3://bulk/er/gone/"),
    )
    assert_refused(
        "ResourceNotFoundException", lambda: start_deletion(service, "x", f"{group}x", "s3://b/k")
    )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("header", b"ID\nu1\n", "the header is ID; the schema requires USER_ID"),
        ("two", b"USER_ID,X\nu1,1\n", "the header is USER_ID,X"),
        ("empty", b"USER_ID\n", "has no rows"),
        ("large", b"USER_ID\n" + b"u" * 52_428_800, "may have at most 52428800"),
    ],
)
def test_a_data_deletion_job_fails_with_the_reason(
    s3: S3, service: Any, name: str, content: bytes, reason: str
) -> None:
    """Files that the service does not accept."""
    group = f"{ARN}:dataset-group/tunemesh"
    job = start_deletion(service, name, group, s3.put(f"fails/{name}.csv", content))
    described = wait_for(
        lambda: service.describe_data_deletion_job(dataDeletionJobArn=job), "FAILED"
    )
    assert reason in described["failureReason"]
    assert "numDeleted" not in described


def test_a_full_import_does_not_replace_put_records(server: Server, s3: S3, service: Any) -> None:
    """The group has both."""
    group = create_group(service, "both")
    dataset = create_dataset(service, group, "Items", SCHEMAS.items)
    server.events.put_items(
        datasetArn=dataset,
        items=[
            {"itemId": "i000", "properties": '{"genres":"folk"}'},
            {"itemId": "put", "properties": '{"genres":"rock"}'},
        ],
    )
    header = columns(SCHEMAS.items)
    location = s3.put("both.csv", csv(header, ITEMS))
    job = start_import(service, "both", dataset, location)
    wait_for(lambda: service.describe_dataset_import_job(datasetImportJobArn=job))
    counts = server.stats()["groups"]["both"]
    assert (counts["items"], counts["imported"]["items"]) == (2, 40)


def test_training_needs_data_and_a_campaign_needs_a_trained_version(
    server: Server, s3: S3, service: Any
) -> None:
    """A failed training has a reason; only an ACTIVE version can be deployed."""
    group = create_group(service, "trains")
    dataset = create_dataset(service, group, "Interactions", SCHEMAS.interactions)

    def create_solution(**members: Any) -> Any:
        settings = {"recipeArn": RECIPE, "performAutoTraining": False, **members}
        return service.create_solution(name="trains", datasetGroupArn=group, **settings)

    for members in (
        {"performAutoML": True},
        {"recipeArn": "arn:aws:personalize:::recipe/aws-sims"},
        {"recipeArn": "arn:aws:personalize:::recipe/aws-hrnn"},
        {"solutionConfig": {"algorithmHyperParameters": {"a": "b"}}},
    ):
        assert_refused("InvalidInputException", partial(create_solution, **members))
    arn = create_solution()["solutionArn"]
    wait_for(lambda: service.describe_solution(solutionArn=arn))
    untrained = service.create_solution_version(solutionArn=arn)["solutionVersionArn"]
    resource = wait_for(
        lambda: service.describe_solution_version(solutionVersionArn=untrained), "CREATE FAILED"
    )
    assert "0 interactions to train on" in resource["failureReason"]
    create_campaign = partial(service.create_campaign, name="trains")
    assert_refused("InvalidInputException", lambda: create_campaign(solutionVersionArn=untrained))
    job = start_import(
        service, "trains", dataset, put_interactions(s3, "trains.csv", interactions())
    )
    wait_for(lambda: service.describe_dataset_import_job(datasetImportJobArn=job))
    version = service.create_solution_version(name="first", solutionArn=arn)["solutionVersionArn"]
    wait_for(lambda: service.describe_solution_version(solutionVersionArn=version))
    campaign = create_campaign(solutionVersionArn=version)["campaignArn"]
    wait_for(lambda: service.describe_campaign(campaignArn=campaign))
    response = server.runtime.get_personalized_ranking(
        campaignArn=campaign, userId="u000", inputList=["i030", "i012", "unknown"]
    )
    ranking = [item["itemId"] for item in response["personalizedRanking"]]
    assert ranking == ["i012", "i030", "unknown"]
    assert_refused("ResourceInUseException", lambda: service.delete_solution(solutionArn=arn))
    service.delete_campaign(campaignArn=campaign)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        server.runtime.get_recommendations(campaignArn=campaign, userId="u000")


def test_recipes_are_listed_and_described(service: Any) -> None:
    """All of the service's, in pages; a solution takes those that the emulator has a model for."""
    pages = service.get_paginator("list_recipes").paginate(PaginationConfig={"PageSize": 4})
    listed = [recipe["recipeArn"] for page in pages for recipe in page["recipes"]]
    assert {RECIPE, "arn:aws:personalize:::recipe/aws-sims"} <= set(listed)
    assert len(set(listed)) == len(listed) > 4
    recipe = service.describe_recipe(recipeArn=RECIPE)["recipe"]
    assert (recipe["recipeType"], recipe["status"]) == ("USER_PERSONALIZATION", "ACTIVE")
    assert_refused(
        "ResourceNotFoundException", lambda: service.describe_recipe(recipeArn=RECIPE[:-1])
    )
    assert service.list_tags_for_resource(resourceArn=GROUP)["tags"] == []
    assert_refused(
        "ResourceNotFoundException", lambda: service.list_tags_for_resource(resourceArn=GROUP + "x")
    )


def test_automatic_training_is_the_default(service: Any) -> None:
    """A solution without performAutoTraining trains its first version, here without data."""
    group = create_group(service, "automatic")
    create_dataset(service, group, "Interactions", SCHEMAS.interactions)
    arn = service.create_solution(name="automatic", datasetGroupArn=group, recipeArn=RECIPE)[
        "solutionArn"
    ]
    assert wait_for(lambda: service.describe_solution(solutionArn=arn))["performAutoTraining"]
    [version] = service.list_solution_versions(solutionArn=arn)["solutionVersions"]
    described = wait_for(
        lambda: service.describe_solution_version(solutionVersionArn=version["solutionVersionArn"]),
        "CREATE FAILED",
    )
    assert described["trainingType"] == "AUTOMATIC"
    assert "0 interactions to train on" in described["failureReason"]


def test_an_empty_group_can_be_deleted(server: Server, s3: S3, service: Any) -> None:
    """Its data is deleted; a new group of the same name is empty."""
    group = create_group(service, "deleted")
    dataset = create_dataset(service, group, "Interactions", SCHEMAS.interactions)
    job = start_import(
        service, "deleted", dataset, put_interactions(s3, "deleted.csv", interactions())
    )
    wait_for(lambda: service.describe_dataset_import_job(datasetImportJobArn=job))
    assert_refused(
        "ResourceInUseException", lambda: service.delete_dataset_group(datasetGroupArn=group)
    )
    service.delete_dataset(datasetArn=dataset)
    wait_until(
        lambda: not service.list_datasets(datasetGroupArn=group)["datasets"],
        "the deletion of the dataset",
    )
    service.delete_dataset_group(datasetGroupArn=group)

    def is_deleted() -> bool:
        groups = service.list_dataset_groups()["datasetGroups"]
        return group not in [entry["datasetGroupArn"] for entry in groups]

    wait_until(is_deleted, "the deletion of the group")
    create_group(service, "deleted")
    assert server.stats()["groups"]["deleted"]["imported"]["interactions"] == 0


def test_a_group_has_up_to_ten_filters_of_its_own(server: Server, service: Any) -> None:
    """Expressions that are not offered, and an eleventh filter, are refused."""
    group = create_group(service, "filtered")
    create_dataset(service, group, "Items", SCHEMAS.items)

    def create(name: str, expression: str) -> Any:
        return service.create_filter(name=name, datasetGroupArn=group, filterExpression=expression)[
            "filterArn"
        ]

    expression = "INCLUDE ItemID WHERE Items.GENRES IN ($GENRES)"
    code, message = refused(lambda: create("users", 'INCLUDE UserID WHERE Users.A IN ("b")'))
    assert (code, "does not offer" in message) == ("InvalidInputException", True)
    arns = [create(f"filter{number}", expression) for number in range(10)]
    assert_refused("LimitExceededException", lambda: create("filter10", expression))
    wait_for(lambda: service.describe_filter(filterArn=arns[0]))
    query = {"campaignArn": CAMPAIGN, "userId": "u1", "filterArn": arns[0]}
    values = {"GENRES": '"rock"'}
    with pytest.raises(ClientError, match="another dataset group"):
        server.runtime.get_recommendations(**query, filterValues=values)
    # The items of the group that exists from the start have a time of creation, too.
    service.create_filter(
        name="new",
        datasetGroupArn=GROUP,
        filterExpression="INCLUDE ItemID WHERE Items.CREATION_TIMESTAMP > $SINCE",
    )
    service.delete_filter(filterArn=arns[0])
    with pytest.raises(ClientError, match=r"ResourceNotFound|InvalidInput"):
        server.runtime.get_recommendations(**query, filterValues=values)


def test_created_resources_exist_after_a_kill(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also an event tracker with its tracking id."""
    data = tmp_path_factory.mktemp("killed")
    with running(data, "--step-seconds", "0.01") as first:
        service = first.client("personalize")
        group = create_group(service, "killed")
        created = service.create_event_tracker(name="killed", datasetGroupArn=group)
        first.process.kill()
        first.process.communicate(timeout=ANSWER_SECONDS)
    with running(data, "--step-seconds", "0.01") as second:
        service = second.client("personalize")
        (tracker,) = service.list_event_trackers(datasetGroupArn=group)["eventTrackers"]
        assert tracker["eventTrackerArn"] == created["eventTrackerArn"]
        wait_for(lambda: service.describe_event_tracker(eventTrackerArn=created["eventTrackerArn"]))
        second.events.put_events(
            trackingId=created["trackingId"],
            sessionId="s",
            eventList=[{"eventType": "play", "itemId": "i", "sentAt": 1_763_000_000}],
        )
        assert second.stats()["groups"]["killed"]["accepted_events"] == 1
