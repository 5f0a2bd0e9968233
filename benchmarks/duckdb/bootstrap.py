"""`batch.bootstrap` in DuckDB. Runs in the environment of requirements.lock.

    python bootstrap.py run DATA OUT MEMORY      reads the products in DATA, writes CSV to OUT
    python bootstrap.py compare ONE OTHER        exit code 0 if both outputs have the same rows

The same rules on the same files, with DuckDB's own joins and CSV writer. Prints the result as JSON.
"""

import json
import sys
import time
from pathlib import Path

import duckdb

DATASETS = ("users", "items", "interactions")
UNTIL_MS = 1_790_000_000_000 + 60 * 86_400_000
KEYWORDS = (
    "('USER_ID','ITEM_ID','TIMESTAMP','EVENT_TYPE','EVENT_VALUE','IMPRESSION','RECOMMENDATION_ID',"
    "'EVENT_ATTRIBUTION_SOURCE','CREATION_TIMESTAMP')"
)
CSV = "(FORMAT csv, HEADER true, QUOTE '\"', ESCAPE '\\', PER_THREAD_OUTPUT true)"


def files(data: Path, name: str) -> str:
    """Return the files of a product's manifest as a list in SQL."""
    location = data / name
    version = json.loads((location / "current.json").read_text())["version"]
    folder = location / "versions" / version
    manifest = json.loads((folder / "manifest.json").read_text())
    return "[" + ", ".join(f"'{folder / entry['name']}'" for entry in manifest["files"]) + "]"


def bad_id(column: str, max_length: int = 256) -> str:
    """Return the SQL condition for an id that Personalize does not accept."""
    return (
        f"(length({column}) > {max_length} OR {column} < ' '"
        f" OR contains({column}, chr(10)) OR contains({column}, chr(13)))"
    )


def any_text(columns: tuple[str, ...], condition: str) -> str:
    """Return the SQL condition that one of the texts satisfies a condition."""
    return "(" + " OR ".join(f"coalesce({condition.format(c)}, false)" for c in columns) + ")"


def line(column: str) -> str:
    """Return the SQL of a text without line breaks; NULL if it is empty."""
    return f"nullif(translate({column}, chr(10) || chr(13), '  '), '')"


def joined(column: str) -> str:
    """Return the SQL of a list in the format of Personalize."""
    return f"nullif(array_to_string(list_filter({column}, lambda x: x <> ''), '|'), '')"


def seconds(column: str) -> str:
    """Return the SQL of the epoch seconds, at least 0."""
    return f"CASE WHEN {column} IS NOT NULL THEN greatest(0, epoch_ms({column})) // 1000 END"


def checked(source: str, key: str, columns: str, texts: tuple[str, ...]) -> str:
    """Return the SQL of a product's rows with the reason of their rejection."""
    return f"""
        SELECT *, CASE WHEN id IS NULL OR id = '' THEN 'missing_id' WHEN {bad_id("id")}
            THEN 'invalid_id' WHEN deleted THEN 'deleted'
            WHEN {any_text(texts, "length({}) > 1000")} THEN 'too_long'
            WHEN {any_text(("id", *texts), "{} IN " + KEYWORDS)} THEN 'reserved_word' END AS reason
        FROM (SELECT {key} AS id, {columns}, updated_at, deleted FROM read_parquet({source}))"""


def newest(table: str, order: str) -> str:
    """Return the SQL of the newest valid row of each id."""
    return f"""SELECT * FROM {table} WHERE reason IS NULL
        QUALIFY row_number() OVER (
            PARTITION BY id ORDER BY updated_at DESC NULLS LAST, {order}) = 1"""


def run(data: Path, out: Path, memory: str) -> None:
    """Run the bootstrap."""
    database = duckdb.connect()
    database.execute(f"SET threads = 2; SET memory_limit = '{memory}'")
    database.execute(f"SET temp_directory = '{out / 'spill'}'; SET TimeZone = 'UTC'")
    database.execute("SET preserve_insertion_order = false")
    for name in (*DATASETS, "rejected"):
        (out / name).mkdir(parents=True, exist_ok=True)
    user_texts = ("country", "age_band", "subscription")
    item_texts = ("title", "creator", "genres", "language")
    database.execute(
        f"""CREATE TEMP TABLE checked_users AS {
            checked(
                files(data, "users"),
                "user_id",
                "country, age_band, subscription, created_at",
                user_texts,
            )
        }"""
    )
    database.execute(f"""CREATE TEMP TABLE checked_items AS {
        checked(
            files(data, "songs"),
            "song_id",
            "'songs' AS product, 'song' AS item_type, title, nullif(artist, '') AS creator, "
            f"{joined('genres')} AS genres, duration_seconds::BIGINT * 1000 AS duration_ms, "
            "NULL::VARCHAR AS language, released_at AS created_at",
            item_texts,
        )
    }
        UNION ALL {
        checked(
            files(data, "podcasts"),
            "podcast_id",
            "'podcasts' AS product, 'podcast' AS item_type, title, "
            "coalesce(nullif(host, ''), nullif(publisher, '')) AS creator, "
            f"{joined('categories')} AS genres, NULL::BIGINT AS duration_ms, "
            "language, NULL::TIMESTAMPTZ AS created_at",
            item_texts,
        )
    }""")
    database.execute(
        "CREATE TEMP TABLE users AS "
        + newest("checked_users", "country DESC, age_band DESC, subscription DESC, created_at DESC")
    )
    database.execute(
        "CREATE TEMP TABLE items AS "
        + newest(
            "checked_items",
            "product, item_type DESC, title DESC, creator DESC, genres DESC,"
            "duration_ms DESC, language DESC, created_at DESC",
        )
    )
    database.execute(f"""COPY (SELECT {line("id")} AS USER_ID, {line("country")} AS COUNTRY,
        {line("age_band")} AS AGE_BAND, {line("subscription")} AS SUBSCRIPTION,
        {seconds("created_at")} AS CREATION_TIMESTAMP FROM users) TO '{out / "users"}' {CSV}""")
    database.execute(f"""COPY (SELECT {line("id")} AS ITEM_ID, item_type AS ITEM_TYPE,
        {line("title")} AS TITLE, {line("creator")} AS CREATOR, {line("genres")} AS GENRES,
        duration_ms AS DURATION_MS, {line("language")} AS LANGUAGE,
        {seconds("created_at")} AS CREATION_TIMESTAMP FROM items) TO '{out / "items"}' {CSV}""")
    own = ("item_type", "device")
    texts = ("item_id", "user_id", "event_type", "recommendation_id", *own)
    database.execute(f"""CREATE TEMP VIEW checked_interactions AS
        SELECT event_id, user_id, item_id, item_type, event_type, played_ms, device, occurred_at,
            recommendation_id, impression, published_at, CASE
        WHEN epoch_ms(published_at) >= {UNTIL_MS} THEN 'later'
        WHEN event_id IS NULL OR event_id = '' OR item_id IS NULL OR item_id = ''
            THEN 'missing_id'
        WHEN user_id IS NULL OR user_id = '' THEN 'no_user'
        WHEN {bad_id("event_id")} OR {bad_id("item_id")} OR {bad_id("user_id")} THEN 'invalid_id'
        WHEN event_type IS NULL OR event_type = '' OR {bad_id("event_type")}
            OR occurred_at IS NULL OR epoch_ms(occurred_at) < 2678400000 THEN 'invalid_value'
        WHEN epoch_ms(occurred_at) > epoch_ms(published_at) + 86400000 THEN 'future_timestamp'
        WHEN recommendation_id = '' OR {bad_id("recommendation_id", 40)} THEN 'invalid_id'
        WHEN len(impression) > 25 OR len(list_filter(impression, lambda x: x = ''
            OR length(x) > 256 OR contains(x, chr(10)) OR contains(x, chr(13)))) > 0
            THEN 'invalid_impression'
        WHEN {any_text(own, "length({}) > 1000")} THEN 'too_long'
        WHEN {any_text(texts, "{} IN " + KEYWORDS)} THEN 'reserved_word' END AS reason
        FROM read_parquet({files(data, "interactions")})""")
    share = "(20000 * played_ms + duration_ms) // (2 * duration_ms)"
    database.execute(f"""COPY (SELECT {line("user_id")} AS USER_ID, {line("item_id")} AS ITEM_ID,
        {seconds("occurred_at")} AS "TIMESTAMP", {line("event_type")} AS EVENT_TYPE,
        CASE WHEN played_ms > 0 AND duration_ms BETWEEN 1 AND 400000000000000 THEN
            CASE WHEN played_ms >= duration_ms OR {share} >= 10000 THEN '1.0000'
            ELSE '0.' || lpad(({share})::VARCHAR, 4, '0') END END AS EVENT_VALUE,
        {line("recommendation_id")} AS RECOMMENDATION_ID, {joined("impression")} AS IMPRESSION,
        {line("i.item_type")} AS ITEM_TYPE, {line("device")} AS DEVICE,
        {line("u.country")} AS COUNTRY, {line("u.subscription")} AS SUBSCRIPTION,
        {line("t.genres")} AS GENRE
        FROM checked_interactions i LEFT JOIN users u ON i.user_id = u.id
        LEFT JOIN items t ON i.item_id = t.id WHERE i.reason IS NULL)
        TO '{out / "interactions"}' {CSV}""")
    # Besides the CSV: rejected rows, counts, and the numbers for the training minimums.
    for table in ("checked_users", "checked_items", "checked_interactions"):
        database.execute(f"""COPY (SELECT * FROM {table} WHERE reason <> 'later')
            TO '{out / "rejected" / table}.json' (FORMAT json)""")
        database.execute(f"SELECT reason, count(*) FROM {table} GROUP BY reason").fetchall()
    database.execute("""SELECT count(*), count(*) FILTER (n >= 2) FROM (
        SELECT user_id, count(*) AS n FROM checked_interactions WHERE reason IS NULL
        GROUP BY user_id)""").fetchall()
    database.execute(
        "SELECT count(DISTINCT event_type) FROM checked_interactions WHERE reason IS NULL"
    ).fetchall()


def digest(folder: Path) -> dict[str, list[int]]:
    """Return the number of rows of each dataset, and the sum and xor of their hashes."""
    digests = {}
    for name in DATASETS:
        source = (
            f"read_csv('{folder / name}/*.csv', header = true, all_varchar = true, quote = '\"',"
            " escape = '\\', delim = ',', strict_mode = true, auto_detect = false, columns = {})"
        )
        first = next((folder / name).glob("*.csv"))
        with first.open(encoding="utf-8") as file:
            header = file.readline().rstrip("\n").split(",")
        columns = "{" + ", ".join(f"'{column}': 'VARCHAR'" for column in header) + "}"
        rows = duckdb.execute(
            "SELECT count(*), sum(hash(r)::HUGEINT)::VARCHAR, bit_xor(hash(r))::VARCHAR"
            f" FROM {source.replace('{}', columns)} AS r"
        ).fetchone()
        digests[name] = [header, *rows]
    return digests


def main() -> int:
    """Run the command of the arguments."""
    command, first, second, *rest = sys.argv[1:]
    if command == "compare":
        one, other = digest(Path(first)), digest(Path(second))
        print(json.dumps({"equal": one == other, "one": one, "other": other}))
        return 0 if one == other else 1
    started = time.perf_counter()
    run(Path(first), Path(second), *rest)
    print(json.dumps({"seconds": time.perf_counter() - started}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
