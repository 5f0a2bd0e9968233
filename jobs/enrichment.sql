-- Enrichment: users, items, interactions -> interactions-enriched, dead-letters.
--
-- Tables (connectors/kafka/tables.py): enrichment_users, enrichment_items, enrichment_interactions are raw
-- records; interactions_enriched and dead_letters are the sinks.
-- Functions (jobs/decode_functions.py): decode_user, decode_item, decode_interaction, one call a record.
--
-- Text is Latin-1, one character a byte, until the last step: SQL joins and cuts strings, not bytes.

-- step: decode
-- Nothing but the function's row leaves these views: the planner calls a Python function once for
-- each different projection of its row, and both branches below (ok, not ok) have the same.
CREATE TEMPORARY VIEW decoded_users AS
SELECT r.ok AS ok, r.`key` AS `key`, r.payload AS payload
FROM (
  SELECT decode_user(`key`, `value`, origin, published_at) AS r
  FROM enrichment_users
);

CREATE TEMPORARY VIEW decoded_items AS
SELECT r.ok AS ok, r.`key` AS `key`, r.item_id AS item_id, r.payload AS payload
FROM (
  SELECT decode_item(`key`, `value`, origin, published_at) AS r
  FROM enrichment_items
);

-- Three columns instead of the text `origin`: making it in SQL costs a seventh of the throughput.
CREATE TEMPORARY VIEW decoded_interactions AS
SELECT r.ok AS ok, r.`key` AS `key`, r.item_id AS item_id, r.payload AS payload
FROM (
  SELECT decode_interaction(
    `key`, `value`, `topic`, `partition`, `offset`, published_at) AS r
  FROM enrichment_interactions
);

-- step: versions
-- The newest version of each item and user: the greatest payload. A payload starts with its version as
-- sortable text, so an update that arrives late never wins. One state value an id; no buffer, no timer,
-- no watermark to wait for.
CREATE TEMPORARY VIEW item_versions AS
SELECT item_id, arrived,
  MAX(payload) OVER (
    PARTITION BY item_id ORDER BY arrived ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
  ) AS version
FROM (SELECT item_id, payload, PROCTIME() AS arrived FROM decoded_items WHERE ok);

CREATE TEMPORARY VIEW user_versions AS
SELECT `key` AS user_id, arrived,
  MAX(payload) OVER (
    PARTITION BY `key` ORDER BY arrived ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
  ) AS version
FROM (SELECT `key`, payload, PROCTIME() AS arrived FROM decoded_users WHERE ok);

-- step: join
-- items_at and users_at are temporal table functions over these views (jobs/submission/plan.py). An
-- event reads the version that is there and writes nothing: ids that no domain has published, and
-- sessions of anonymous users (their key starts with U+001F), are no state. The joins become LEFT
-- joins at submission (connectors/flink/internals/left_join.py): SQL has no way to say so.
CREATE TEMPORARY VIEW with_item AS
SELECT e.`key`, e.payload, i.version AS item, PROCTIME() AS arrived
FROM (
  SELECT item_id, `key`, payload, PROCTIME() AS arrived FROM decoded_interactions WHERE ok
) AS e, LATERAL TABLE(items_at(e.arrived)) AS i
WHERE i.item_id = e.item_id;

CREATE TEMPORARY VIEW with_user_and_item AS
SELECT e.`key`, e.payload, e.item, u.version AS `user`
FROM with_item AS e, LATERAL TABLE(users_at(e.arrived)) AS u
WHERE u.user_id = e.`key`;

-- step: out
-- An Avro record is its fields one after the other: the head from decode_interaction, the user, the
-- item. The first 38 characters of a state are its version (STATE_PREFIX of jobs/decode.py); the rest
-- is the union branch.
INSERT INTO interactions_enriched
SELECT
  ENCODE(CASE WHEN `key` < U&'\0020' THEN SUBSTRING(`key` FROM 2) ELSE `key` END, 'UTF-8'),
  ENCODE(
    payload || COALESCE(SUBSTRING(`user` FROM 39), DECODE(x'00', 'ISO-8859-1'))
      || COALESCE(SUBSTRING(item FROM 39), DECODE(x'00', 'ISO-8859-1')),
    'ISO-8859-1')
FROM with_user_and_item;

INSERT INTO dead_letters
SELECT ENCODE(`key`, 'ISO-8859-1'), ENCODE(payload, 'ISO-8859-1')
FROM (
  SELECT ok, `key`, payload FROM decoded_users
  UNION ALL SELECT ok, `key`, payload FROM decoded_items
  UNION ALL SELECT ok, `key`, payload FROM decoded_interactions
)
WHERE NOT ok;
