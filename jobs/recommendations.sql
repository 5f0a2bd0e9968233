-- Recommendations: interactions-enriched -> PutEvents; users -> PutUsers; songs, podcasts -> PutItems.
-- Rejected records -> dead-letters; deleted users and items -> deletions.
--
-- Tables (connectors/kafka/tables.py): recommendations_enriched, recommendations_users, recommendations_items
-- are raw records, `piece` is a whole record as text; dead_letters and deletions are the sinks.
-- Functions: version_of_user, version_of_item (jobs/decode_functions.py), one call a record; deliver_events,
-- deliver_users, deliver_items (jobs/delivery_functions.py), one call a micro-batch: they return when each
-- record is accepted, rejected or replaced by a newer one, so that a checkpoint covers it.

-- step: events
-- Micro-batches of a tenth of a second each, in 16 buckets by a hash of the key: all events of a user
-- are in one, which keeps their order, and the buckets spread over the subtasks. While a batch is
-- being delivered, the next one fills.
CREATE TEMPORARY VIEW event_batches AS
SELECT deliver_events(LISTAGG(piece, '')) AS results
FROM TABLE(TUMBLE(
  DATA => (SELECT bucket, piece, PROCTIME() AS arrived FROM recommendations_enriched),
  TIMECOL => DESCRIPTOR(arrived),
  SIZE => INTERVAL '0.1' SECOND))
GROUP BY window_start, window_end, bucket;

-- step: users and items
-- A version passes when no newer one of its user or item has: versions are sortable text, the greatest
-- so far is state, so a late update is dropped also after a restart. A record that cannot be decoded
-- becomes a dead letter in the enrichment, not here again.
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

-- Micro-batches of a second each: the service accepts ten calls a second, and a burst of updates of
-- one song costs one record.
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

-- step: results
-- Records that batches leave over, each as a text that starts with the letter of its sink.
CREATE TEMPORARY VIEW recommendations_results AS
SELECT left_over FROM event_batches CROSS JOIN UNNEST(event_batches.results) AS r (left_over)
UNION ALL
SELECT left_over FROM user_batches CROSS JOIN UNNEST(user_batches.results) AS r (left_over)
UNION ALL
SELECT left_over FROM item_batches CROSS JOIN UNNEST(item_batches.results) AS r (left_over);

-- step: out
INSERT INTO dead_letters
SELECT
-- include: micro_batch/left_over.sql
FROM recommendations_results WHERE SUBSTRING(left_over FROM 1 FOR 1) = 'L';

INSERT INTO deletions
SELECT
-- include: micro_batch/left_over.sql
FROM recommendations_results WHERE SUBSTRING(left_over FROM 1 FOR 1) = 'D';
