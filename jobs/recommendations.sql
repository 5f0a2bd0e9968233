-- Recommendations: interactions-enriched -> PutEvents; users -> PutUsers; songs, podcasts -> PutItems.
-- What is refused goes to dead-letters, what has been deleted to deletions.
--
-- Tables (connectors/kafka/tables.py): recommendations_enriched, recommendations_users, recommendations_items
-- are raw records, `piece` is all of one as text; dead_letters and deletions are the sinks.
-- Functions: version_of_user, version_of_item (jobs/decode_functions.py), one call a record; deliver_events,
-- deliver_users, deliver_items (jobs/delivery_functions.py), one call a micro-batch: they return when each
-- record has been accepted, rejected or replaced by a newer one, so that a checkpoint covers it.

-- step: events
-- Micro-batches, a tenth of a second each, in 16 buckets by a hash of the key: all of a user's events
-- are in one, so their order stays, and the buckets spread over the subtasks. While a batch is on its
-- way the next one grows.
CREATE TEMPORARY VIEW event_batches AS
SELECT deliver_events(LISTAGG(piece, '')) AS results
FROM TABLE(TUMBLE(
  DATA => (SELECT bucket, piece, PROCTIME() AS arrived FROM recommendations_enriched),
  TIMECOL => DESCRIPTOR(arrived),
  SIZE => INTERVAL '0.1' SECOND))
GROUP BY window_start, window_end, bucket;

-- step: users and items
-- A version passes when none newer of its user or item has: versions are sortable text, the greatest
-- so far is state, so an update that arrives late is dropped also after a restart. What cannot be
-- decoded is the enrichment's dead letter, not ours again.
CREATE TEMPORARY VIEW newest_users AS
SELECT id, piece
FROM (
  SELECT id, version, piece,
    MAX(version) OVER (
      PARTITION BY id ORDER BY arrived ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS newest
  FROM (
    SELECT r.id AS id, r.version AS version, piece, PROCTIME() AS arrived
    FROM (
      SELECT version_of_user(`key`, `value`, origin, published_at) AS r, piece
      FROM recommendations_users
    )
    WHERE r.id IS NOT NULL
  )
)
WHERE version = newest;

CREATE TEMPORARY VIEW newest_items AS
SELECT id, piece
FROM (
  SELECT id, version, piece,
    MAX(version) OVER (
      PARTITION BY id ORDER BY arrived ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS newest
  FROM (
    SELECT r.id AS id, r.version AS version, piece, PROCTIME() AS arrived
    FROM (
      SELECT version_of_item(`key`, `value`, origin, published_at) AS r, piece
      FROM recommendations_items
    )
    WHERE r.id IS NOT NULL
  )
)
WHERE version = newest;

-- A second each: ten calls a second is what the service takes, and a burst of updates of one song
-- costs one record.
CREATE TEMPORARY VIEW user_batches AS
SELECT deliver_users(LISTAGG(piece, '')) AS results
FROM TABLE(TUMBLE(
  DATA => (SELECT ASCII(MD5(id)) AS bucket, piece, PROCTIME() AS arrived FROM newest_users),
  TIMECOL => DESCRIPTOR(arrived),
  SIZE => INTERVAL '1' SECOND))
GROUP BY window_start, window_end, bucket;

CREATE TEMPORARY VIEW item_batches AS
SELECT deliver_items(LISTAGG(piece, '')) AS results
FROM TABLE(TUMBLE(
  DATA => (SELECT ASCII(MD5(id)) AS bucket, piece, PROCTIME() AS arrived FROM newest_items),
  TIMECOL => DESCRIPTOR(arrived),
  SIZE => INTERVAL '1' SECOND))
GROUP BY window_start, window_end, bucket;

-- What is left over is text (jobs/micro_batch/pieces.py): the sink's letter, the length of the key, key, value.
CREATE TEMPORARY VIEW recommendations_results AS
SELECT left_over FROM event_batches CROSS JOIN UNNEST(event_batches.results) AS r (left_over)
UNION ALL
SELECT left_over FROM user_batches CROSS JOIN UNNEST(user_batches.results) AS r (left_over)
UNION ALL
SELECT left_over FROM item_batches CROSS JOIN UNNEST(item_batches.results) AS r (left_over);

-- step: out
INSERT INTO dead_letters
SELECT
  ENCODE(
    SUBSTRING(left_over FROM 9 FOR TRY_CAST(SUBSTRING(left_over FROM 2 FOR 7) AS INT)), 'ISO-8859-1'),
  ENCODE(
    SUBSTRING(left_over FROM 9 + COALESCE(TRY_CAST(SUBSTRING(left_over FROM 2 FOR 7) AS INT), 0)),
    'ISO-8859-1')
FROM recommendations_results WHERE SUBSTRING(left_over FROM 1 FOR 1) = 'L';

INSERT INTO deletions
SELECT
  ENCODE(
    SUBSTRING(left_over FROM 9 FOR TRY_CAST(SUBSTRING(left_over FROM 2 FOR 7) AS INT)), 'ISO-8859-1'),
  ENCODE(
    SUBSTRING(left_over FROM 9 + COALESCE(TRY_CAST(SUBSTRING(left_over FROM 2 FOR 7) AS INT), 0)),
    'ISO-8859-1')
FROM recommendations_results WHERE SUBSTRING(left_over FROM 1 FOR 1) = 'D';
