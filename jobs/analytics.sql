-- Analytics: interactions-enriched -> Firehose; -> OpenSearch, the events and trends by the minute.
--
-- Tables (connectors/kafka/tables.py): analytics_archive, analytics_search and analytics_trends are raw
-- records, `piece` is a whole record as text; each is a source of its own, so that Firehose and
-- OpenSearch do not delay each other. trends and dead_letters are the sinks.
-- Functions: archive_events, index_events, index_trends (jobs/delivery_functions.py), one call a micro-batch;
-- trend_facts, encode_trend (jobs/trends.py), one call a record.

-- step: events
CREATE TEMPORARY VIEW archive_batches AS
SELECT archive_events(LISTAGG(piece, '')) AS results
FROM TABLE(TUMBLE(
  DATA => (SELECT bucket, piece, PROCTIME() AS arrived FROM analytics_archive),
  TIMECOL => DESCRIPTOR(arrived),
  SIZE => INTERVAL '1' SECOND))
GROUP BY window_start, window_end, bucket;

CREATE TEMPORARY VIEW search_batches AS
SELECT index_events(LISTAGG(piece, '')) AS results
FROM TABLE(TUMBLE(
  DATA => (SELECT bucket, piece, PROCTIME() AS arrived FROM analytics_search),
  TIMECOL => DESCRIPTOR(arrived),
  SIZE => INTERVAL '1' SECOND))
GROUP BY window_start, window_end, bucket;

-- step: trends
-- An event counts once (by its event_id), in the minute in which it occurred, for each of its
-- dimensions: item, genres, item type, country. Counts are states that grow, so a late event is
-- counted, too, and nothing waits for a watermark. trend_facts omits events that are too late; the
-- states are kept for an hour longer than that (jobs/submission/plan.py).
CREATE TEMPORARY VIEW trend_events AS
SELECT `minute`, listener, played, skipped, completion, facets
FROM (
  SELECT `minute`, listener, played, skipped, completion, facets,
    ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY arrived) AS occurrence
  FROM (
    SELECT f.event_id AS event_id, f.`minute` AS `minute`, f.listener AS listener,
      f.played AS played, f.skipped AS skipped, f.completion AS completion,
      f.facets AS facets, PROCTIME() AS arrived
    FROM (SELECT trend_facts(`value`) AS f FROM analytics_search)
    WHERE f.event_id IS NOT NULL
  )
)
WHERE occurrence = 1;

CREATE TEMPORARY VIEW trend_states AS
SELECT dimension, `value`, `minute`, MAX(label) AS label, SUM(played) AS plays,
  SUM(skipped) AS skips, COUNT(DISTINCT listener) AS listeners, AVG(completion) AS completion, COUNT(*) AS version
FROM (
  SELECT SPLIT_INDEX(facet, U&'\001F', 0) AS dimension, SPLIT_INDEX(facet, U&'\001F', 1) AS `value`,
    NULLIF(SPLIT_INDEX(facet, U&'\001F', 2), '') AS label, `minute`, listener, played, skipped,
    completion
  FROM trend_events CROSS JOIN UNNEST(trend_events.facets) AS f (facet)
)
GROUP BY dimension, `value`, `minute`;

CREATE TEMPORARY VIEW trend_batches AS
SELECT index_trends(LISTAGG(piece, '')) AS results
FROM TABLE(TUMBLE(
  DATA => (SELECT bucket, piece, PROCTIME() AS arrived FROM analytics_trends),
  TIMECOL => DESCRIPTOR(arrived),
  SIZE => INTERVAL '1' SECOND))
GROUP BY window_start, window_end, bucket;

-- step: out
INSERT INTO trends
SELECT dimension || '/' || CAST(`minute` AS STRING) || '/' || `value`,
  encode_trend(dimension, `value`, `minute`, label, plays, skips, listeners, completion, version)
FROM trend_states;

INSERT INTO dead_letters
SELECT
-- include: micro_batch/left_over.sql
FROM (
  SELECT left_over FROM archive_batches CROSS JOIN UNNEST(archive_batches.results) AS r (left_over)
  UNION ALL
  SELECT left_over FROM search_batches CROSS JOIN UNNEST(search_batches.results) AS r (left_over)
  UNION ALL
  SELECT left_over FROM trend_batches CROSS JOIN UNNEST(trend_batches.results) AS r (left_over)
);
