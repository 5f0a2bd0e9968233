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

-- step: join
-- Events and item versions in one keyed stream: each event leaves with the greatest item payload that
-- has passed for its item. A payload starts with its version as sortable text, so the greatest is the
-- newest, and an update that arrives late never wins. One state value an item, no buffer, no timer, no
-- watermark to wait for; MAX skips nulls, so an event changes nothing, and one whose item is unknown
-- leaves without it.
CREATE TEMPORARY VIEW with_item AS
SELECT `key`, payload, item
FROM (
  SELECT is_event, `key`, payload,
    MAX(version) OVER (
      PARTITION BY item_id ORDER BY arrived ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS item
  FROM (
    SELECT TRUE AS is_event, item_id, `key`, payload, CAST(NULL AS STRING) AS version,
      PROCTIME() AS arrived
    FROM decoded_interactions WHERE ok
    UNION ALL
    SELECT FALSE, item_id, CAST(NULL AS STRING), CAST(NULL AS STRING), payload, PROCTIME()
    FROM decoded_items WHERE ok
  )
)
WHERE is_event;

-- The same with users. Anonymous events (their key starts with U+001F) have none and bypass the join:
-- the number of sessions is unbounded, so none may become state.
CREATE TEMPORARY VIEW with_user_and_item AS
SELECT `key`, payload, item, `user`
FROM (
  SELECT is_event, `key`, payload, item,
    MAX(version) OVER (
      PARTITION BY `key` ORDER BY arrived ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS `user`
  FROM (
    SELECT TRUE AS is_event, `key`, payload, item, CAST(NULL AS STRING) AS version,
      PROCTIME() AS arrived
    FROM with_item WHERE `key` >= U&'\0020'
    UNION ALL
    SELECT FALSE, `key`, CAST(NULL AS STRING), CAST(NULL AS STRING), payload, PROCTIME()
    FROM decoded_users WHERE ok
  )
)
WHERE is_event
UNION ALL
SELECT SUBSTRING(`key` FROM 2), payload, item, CAST(NULL AS STRING)
FROM with_item WHERE `key` < U&'\0020';

-- step: out
-- An Avro record is its fields one after the other: the head from decode_interaction, the user, the
-- item. The first 38 characters of a state are its version (STATE_PREFIX of jobs/decode.py); the rest
-- is the union branch.
INSERT INTO interactions_enriched
SELECT
  ENCODE(`key`, 'UTF-8'),
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
