"""The job as SQL, generated from the contracts: products in, CSV lines, rejects and counts out.

    product_<name>   (table)  the files of one manifest
    checked_<name>   (view)   its rows with the fields of its dataset, and why a row is not imported
    ranked_<dataset> (view)   users, items: the good rows; place 1 is the newest of its id
    kept_<dataset>   (view)   users, items: place 1, with the texts of interactions

A new item domain is one more product_, one more checked_ and one more branch of ranked_items.
Pure: nothing here imports Flink.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batch.bootstrap import rules
from batch.bootstrap.products import INTERACTION_COLUMNS, PUBLISHED_AT, Product
from batch.bootstrap.rules import Reason, any_of, literal, name
from batch.bootstrap.settings import Window
from batch.personalize_schemas import column_of
from connectors.personalize.datasets import ITEMS, USERS, DatasetField, FieldKind, dataset_fields
from connectors.personalize.requests import DEFAULT_PROPERTIES, EventProperty
from schemas.model import Contract, Contracts, ItemMapping, Role, UserMapping, split_nullable
from schemas.rules import MAX_AHEAD_MS

GOOD, EARLIER, LATER = "good", "earlier", "later"
"""Counted beside reasons: rows without a reason, and rows outside the window."""

LISTENERS, ACTIVE, EVENT_TYPES = "@users", "@active_users", "@event_types"
"""Statistics of the good interactions: users, users with two or more, event types."""

BROADCAST_ROWS = 3_000_000
"""Up to this many users or items a copy for each subtask is cheaper than distributing every
interaction by its user or item."""

_TYPES = {
    "string": "STRING",
    "int": "INT",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "array": "ARRAY<STRING>",
}


@dataclass(frozen=True, slots=True)
class Script:
    """Statements in their order: ``definitions`` one by one, ``inserts`` as one job."""

    definitions: tuple[str, ...]
    inserts: tuple[str, ...]


def script(
    contracts: Contracts,
    products: Mapping[str, Product],
    work: str,
    window: Window,
    properties: Sequence[EventProperty] = DEFAULT_PROPERTIES,
) -> Script:
    """The whole job; ``products`` by contract, ``work`` is the address of its working folder."""
    users, interactions = contracts.only(Role.USER), contracts.only(Role.INTERACTION)
    items = contracts.with_role(Role.ITEM)
    user_fields = dataset_fields(contracts, USERS)
    item_fields = dataset_fields(contracts, ITEMS)
    definitions = [source(c, products[c.name]) for c in (users, *items, interactions)]
    definitions += [_checked_record(users, products[users.name], user_fields)]
    definitions += [_checked_record(item, products[item.name], item_fields) for item in items]
    definitions += [
        _ranked("users", (users,), user_fields),
        _ranked("items", items, item_fields),
        _kept("users", user_fields, [p for p in properties if p.source == "user"]),
        _kept("items", item_fields, [p for p in properties if p.source == "item"], "duration_ms"),
        _checked_interactions(products[interactions.name], window, properties),
        *(_lines_sink(dataset, work) for dataset in ("users", "items", "interactions")),
        *(_rejects_sink(c.name, _columns(c, products[c.name]), work) for c in (users, *items)),
        _rejects_sink(interactions.name, _interaction_columns(interactions), work),
        *(
            _rejects_sink(f"{dataset}-superseded", _record_columns(fields), work)
            for dataset, fields in (("users", user_fields), ("items", item_fields))
        ),
        _sink("counts", "product STRING, name STRING, n BIGINT", f"{work}/counts", "json"),
    ]
    inserts = [
        _insert_records("users", user_fields),
        _insert_records("items", item_fields),
        _insert_interactions(products, items, users, properties),
        _insert_rejects(users, "users", _columns(users, products[users.name])),
        *(_insert_rejects(c, "items", _columns(c, products[c.name])) for c in items),
        _insert_rejects(interactions, "interactions", _interaction_columns(interactions)),
        _insert_superseded("users", user_fields),
        _insert_superseded("items", item_fields),
        _insert_counts((users, *items, interactions)),
    ]
    return Script(tuple(definitions), tuple(inserts))


def view(contract: str) -> str:
    """A contract's name as a part of an SQL name."""
    return contract.replace("-", "_").replace(".", "_")


def source(contract: Contract, product: Product) -> str:
    """The table over exactly the files of a manifest.

    Timestamps are read as in the file, milliseconds as INT64.
    """
    wanted = (
        _interaction_columns(contract)
        if contract.role is Role.INTERACTION
        else _columns(contract, product)
    )
    present = {c: t for c, t in wanted.items() if c in product.columns}
    columns = ", ".join(f"{name(c)} {sql_type}" for c, sql_type in present.items())
    return (
        f"CREATE TEMPORARY TABLE product_{view(contract.name)} ({columns}) WITH (\n"
        "  'connector' = 'filesystem', 'format' = 'parquet',\n"
        f"  'path' = {literal(product.folder)},\n"
        f"  'source.path.regex-pattern' = {literal(product.pattern)})"
    )


def _avro_types(contract: Contract) -> dict[str, str]:
    types: dict[str, str] = {}
    for field in contract.newest.avro["fields"]:
        avro, _ = split_nullable(field["type"])
        types[field["name"]] = _TYPES[avro["type"] if isinstance(avro, dict) else avro]
    return types


def _columns(contract: Contract, product: Product) -> dict[str, str]:
    """The columns that may be read, with their SQL types."""
    return {c: t for c, t in _avro_types(contract).items() if c in product.columns}


def _interaction_columns(contract: Contract) -> dict[str, str]:
    types = {**_avro_types(contract), PUBLISHED_AT: "BIGINT"}
    return {column: types[column] for column in INTERACTION_COLUMNS}


def _record_columns(fields: Sequence[DatasetField]) -> dict[str, str]:
    return {"id": "STRING", **{field.source: _field_type(field) for field in fields}}


def _field_type(field: DatasetField) -> str:
    match field.kind:
        case FieldKind.TEXT | FieldKind.CATEGORY | FieldKind.CATEGORIES:
            return "STRING"
        case FieldKind.BOOLEAN:
            return "BOOLEAN"
        case FieldKind.SECONDS:
            return "BIGINT"
        case FieldKind.NUMBER:
            return "BIGINT"


# What schemas.projection does, in SQL.


def projected(contract: Contract, product: Product) -> dict[str, str]:
    """The fields of a user or item, as expressions over its product's columns."""
    types = _avro_types(contract)

    def column(field: str | None, sql_type: str) -> str:
        if field is None or field not in product.columns:
            return f"CAST(NULL AS {sql_type})"
        return name(field) if types[field] == sql_type else f"CAST({name(field)} AS {sql_type})"

    mapping = contract.item or contract.user
    if isinstance(mapping, UserMapping):
        return {
            "country": column(mapping.country, "STRING"),
            "age_band": column(mapping.age_band, "STRING"),
            "subscription": column(mapping.subscription, "STRING"),
            "created_at": column(mapping.created, "BIGINT"),
        }
    assert isinstance(mapping, ItemMapping), contract.name
    creators = ", ".join(f"NULLIF({column(field, 'STRING')}, '')" for field in mapping.creator)
    genres = column(mapping.genres, "ARRAY<STRING>")
    duration = column(mapping.duration, "BIGINT")
    return {
        "item_type": literal(mapping.type),
        "title": column(mapping.title, "STRING"),
        "creator": f"COALESCE({creators})" if creators else "CAST(NULL AS STRING)",
        "genres": rules.categories(genres) if "CAST(NULL" not in genres else "CAST(NULL AS STRING)",
        "duration_ms": f"{duration} * {mapping.duration_unit_ms}",
        "language": column(mapping.language, "STRING"),
        "created_at": column(mapping.created, "BIGINT"),
    }


def _checked_record(contract: Contract, product: Product, fields: Sequence[DatasetField]) -> str:
    mapping = contract.item or contract.user
    assert mapping is not None, contract.name
    identity = mapping.item_id if isinstance(mapping, ItemMapping) else mapping.user_id
    values = projected(contract, product)
    own = name(identity)
    texts = [
        values[field.source]
        for field in fields
        if field.kind in (FieldKind.TEXT, FieldKind.CATEGORY, FieldKind.CATEGORIES)
    ]
    deleted = mapping.deleted if mapping.deleted in product.columns else None
    updated, created = (
        field if field in product.columns else None for field in (mapping.updated, mapping.created)
    )
    times = [rules.wrong_unit(name(updated))] if updated else []
    if created:
        # A work may be from January 1970.
        times.append(rules.wrong_unit(name(created), seconds=contract.item is None))
    reason = rules.first_match(
        (rules.missing(own), Reason.MISSING_ID),
        (rules.invalid_id(own), Reason.INVALID_ID),
        (name(deleted) if deleted else "FALSE", Reason.DELETED),
        (any_of(times), Reason.INVALID_VALUE),
        (any_of(rules.too_long(text) for text in texts), Reason.TOO_LONG),
        (any_of(rules.reserved(text) for text in (own, *texts)), Reason.RESERVED_WORD),
    )
    raw = ", ".join(name(column) for column in _columns(contract, product))
    return (
        f"CREATE TEMPORARY VIEW checked_{view(contract.name)} AS SELECT {raw},\n"
        f"  {own} AS f_id, {literal(contract.name)} AS f_product,\n"
        f"  {name(updated) if updated else 'CAST(NULL AS BIGINT)'} AS f_updated,\n"
        + "".join(f"  {values[f.source]} AS f_{f.source},\n" for f in fields)
        + f"  {reason} AS reason\nFROM product_{view(contract.name)}"
    )


def _ranked(dataset: str, contracts: Sequence[Contract], fields: Sequence[DatasetField]) -> str:
    """Good rows of all domains; the newest of an id is first, in a deterministic order."""
    columns = ["f_id", *(f"f_{field.source}" for field in fields)]
    union = "\n  UNION ALL ".join(
        f"SELECT f_product, f_updated, {', '.join(columns)} FROM checked_{view(c.name)}"
        " WHERE reason IS NULL"
        for c in contracts
    )
    ties = ", ".join(f"{column} DESC" for column in columns[1:])
    return (
        f"CREATE TEMPORARY VIEW ranked_{dataset} AS SELECT *, ROW_NUMBER() OVER (\n"
        "  PARTITION BY f_id ORDER BY f_updated DESC NULLS LAST, f_product, "
        f"{ties}) AS place\nFROM (\n  {union})"
    )


def _kept(
    dataset: str, fields: Sequence[DatasetField], properties: Sequence[EventProperty], *more: str
) -> str:
    lists = {field.source for field in fields if field.kind is FieldKind.CATEGORIES}
    texts = [
        f"{rules.text(f'f_{p.field}', is_category=p.field not in lists)} AS {column_of(p)}"
        for p in properties
    ]
    columns = ", ".join([*texts, *(f"f_{column} AS {column}" for column in more)])
    return (
        f"CREATE TEMPORARY VIEW kept_{dataset} AS SELECT f_id AS id, {columns}\n"
        f"FROM ranked_{dataset} WHERE place = 1"
    )


def _checked_interactions(
    product: Product, window: Window, properties: Sequence[EventProperty]
) -> str:
    own = [name(p.field) for p in properties if p.source == "event"]
    texts = ["event_type", "recommendation_id", *own]
    cases = [
        (rules.missing("event_id"), Reason.MISSING_ID),
        (rules.missing("item_id"), Reason.MISSING_ID),
        (rules.missing("user_id"), Reason.NO_USER),
        (
            any_of(rules.invalid_id(i) for i in ("event_id", "item_id", "user_id")),
            Reason.INVALID_ID,
        ),
        (rules.missing("event_type"), Reason.INVALID_VALUE),
        (rules.invalid_id("event_type"), Reason.INVALID_VALUE),
        (rules.invalid_time("occurred_at"), Reason.INVALID_VALUE),
        (f"occurred_at > {PUBLISHED_AT} + {MAX_AHEAD_MS}", Reason.FUTURE_TIMESTAMP),
        (rules.invalid_recommendation("recommendation_id"), Reason.INVALID_ID),
        (rules.invalid_impression("impression"), Reason.INVALID_IMPRESSION),
        (any_of(rules.too_long(text) for text in own), Reason.TOO_LONG),
        (any_of(rules.reserved(t) for t in ("item_id", "user_id", *texts)), Reason.RESERVED_WORD),
    ]
    reason = rules.first_match(*cases)
    if window.until is not None:
        reason = f"CASE WHEN {PUBLISHED_AT} >= {window.until} THEN '{LATER}' ELSE {reason} END"
    if window.since is not None:
        reason = f"CASE WHEN {PUBLISHED_AT} < {window.since} THEN '{EARLIER}' ELSE {reason} END"
    columns = ", ".join(name(column) for column in INTERACTION_COLUMNS)
    return (
        f"CREATE TEMPORARY VIEW checked_interactions AS SELECT {columns},\n"
        f"  {reason} AS reason\nFROM product_{view(product.contract)}"
    )


# Out.


def _sink(table: str, columns: str, path: str, form: str) -> str:
    return (
        f"CREATE TEMPORARY TABLE {name(table)} ({columns}) WITH (\n"
        f"  'connector' = 'filesystem', 'format' = '{form}', 'path' = {literal(path)})"
    )


def _lines_sink(dataset: str, work: str) -> str:
    """The format raw writes a column's bytes and a line feed: exactly our line."""
    return _sink(f"{dataset}_csv", "line STRING", f"{work}/{dataset}", "raw")


def _rejects_sink(product: str, columns: Mapping[str, str], work: str) -> str:
    record = ", ".join(f"{name(column)} {sql_type}" for column, sql_type in columns.items())
    return _sink(
        f"rejected_{product}",
        f"dataset STRING, product STRING, id STRING, reason STRING, record ROW<{record}>",
        f"{work}/rejected/{product}",
        "json",
    )


def _written(field: DatasetField, column: str) -> str:
    match field.kind:
        case FieldKind.TEXT | FieldKind.CATEGORIES:
            return rules.text(column)
        case FieldKind.CATEGORY:
            return rules.text(column, is_category=True)
        case FieldKind.SECONDS:
            return rules.seconds(column)
        case _:
            return rules.plain(column)


def _insert_records(dataset: str, fields: Sequence[DatasetField]) -> str:
    line = rules.csv_line(
        (rules.text("f_id"), *(_written(field, f"f_{field.source}") for field in fields))
    )
    return f"INSERT INTO {dataset}_csv SELECT\n  {line}\nFROM ranked_{dataset} WHERE place = 1"


def _insert_interactions(
    products: Mapping[str, Product],
    items: Sequence[Contract],
    users: Contract,
    properties: Sequence[EventProperty],
) -> str:
    hints = [
        f"BROADCAST({alias})"
        for alias, rows in (
            ("u", products[users.name].rows),
            ("t", sum(products[item.name].rows for item in items)),
        )
        if rows <= BROADCAST_ROWS
    ]

    def value(one: EventProperty) -> str:
        if one.source == "event":
            return rules.text(f"i.{name(one.field)}", is_category=True)
        return f"COALESCE({'u' if one.source == 'user' else 't'}.{column_of(one)}, '')"

    line = rules.csv_line(
        (
            rules.text("i.user_id"),
            rules.text("i.item_id"),
            rules.seconds("i.occurred_at"),
            rules.text("i.event_type"),
            rules.completion("i.played_ms", "t.duration_ms"),
            rules.text("i.recommendation_id"),
            _impression("i.impression"),
            *(value(one) for one in properties),
        )
    )
    hint = f" /*+ {', '.join(hints)} */" if hints else ""
    return (
        f"INSERT INTO interactions_csv SELECT{hint}\n  {line}\n"
        "FROM checked_interactions AS i\n"
        "LEFT JOIN kept_users AS u ON i.user_id = u.id\n"
        "LEFT JOIN kept_items AS t ON i.item_id = t.id\n"
        "WHERE i.reason IS NULL"
    )


def _impression(column: str) -> str:
    """Ids as one value; always quoted, so that the list is joined once."""
    joined = rules.ids(column)
    escaped = f"""REPLACE(REPLACE({joined}, '\\', '\\\\'), '"', '\\"')"""
    return f"""CASE WHEN CARDINALITY({column}) > 0 THEN '"' || {escaped} || '"' ELSE '' END"""


def _insert_rejects(contract: Contract, dataset: str, columns: Mapping[str, str]) -> str:
    identity = "event_id" if contract.role is Role.INTERACTION else "f_id"
    record = ", ".join(name(column) for column in columns)
    outside = (
        f" AND reason NOT IN ('{EARLIER}', '{LATER}')" if contract.role is Role.INTERACTION else ""
    )
    return (
        f"INSERT INTO {name(f'rejected_{contract.name}')} SELECT {literal(dataset)},"
        f" {literal(contract.name)}, {identity}, reason, ROW({record})\n"
        f"FROM checked_{view(contract.name)} WHERE reason IS NOT NULL{outside}"
    )


def _insert_superseded(dataset: str, fields: Sequence[DatasetField]) -> str:
    record = ", ".join(["f_id", *(f"f_{field.source}" for field in fields)])
    return (
        f"INSERT INTO {name(f'rejected_{dataset}-superseded')} SELECT {literal(dataset)},"
        f" f_product, f_id, '{Reason.SUPERSEDED}', ROW({record})\n"
        f"FROM ranked_{dataset} WHERE place > 1"
    )


def _insert_counts(contracts: Sequence[Contract]) -> str:
    by_reason = [
        f"SELECT {literal(c.name)}, COALESCE(reason, '{GOOD}'), COUNT(*)"
        f" FROM checked_{view(c.name)} GROUP BY reason"
        for c in contracts
    ]
    superseded = [
        f"SELECT f_product, '{Reason.SUPERSEDED}', COUNT(*)"
        f" FROM ranked_{dataset} WHERE place > 1 GROUP BY f_product"
        for dataset in ("users", "items")
    ]
    interactions = literal(contracts[-1].name)
    per_user = (
        "(SELECT user_id, COUNT(*) AS n FROM checked_interactions"
        " WHERE reason IS NULL GROUP BY user_id)"
    )
    event_types = (
        "(SELECT event_type FROM checked_interactions WHERE reason IS NULL GROUP BY event_type)"
    )
    figures = [
        f"SELECT {interactions}, '{LISTENERS}', COUNT(*) FROM {per_user}",
        f"SELECT {interactions}, '{ACTIVE}', COUNT(*) FROM {per_user} WHERE n >= 2",
        f"SELECT {interactions}, '{EVENT_TYPES}', COUNT(*) FROM {event_types}",
    ]
    return "INSERT INTO counts\n" + "\nUNION ALL ".join([*by_reason, *superseded, *figures])
