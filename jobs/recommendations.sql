-- Recommendations: interactions-enriched -> PutEvents, dead-letters.
--
-- Tables (connectors/kafka.py): recommendations_enriched is raw records; dead_letters is the sink.
-- Functions (jobs/delivery.py): deliver_events, one call a micro-batch; it returns when each record
-- has been accepted or rejected, so that a checkpoint covers what it was given.

-- step: batch
-- Micro-batches of a topic partition, a tenth of a second each. All of a user's events are in one
-- partition, so their order stays; while a batch is on its way the next one grows.
CREATE TEMPORARY VIEW event_batches AS
SELECT
  deliver_events(ARRAY_AGG(ROW(`key`, `value`, `partition`, `offset`, published))) AS rejected
FROM TABLE(TUMBLE(
  DATA => (SELECT `key`, `value`, `partition`, `offset`,
      EXTRACT(EPOCH FROM `timestamp`) * 1000 + EXTRACT(MILLISECOND FROM `timestamp`) AS published,
      PROCTIME() AS arrived
    FROM recommendations_enriched),
  TIMECOL => DESCRIPTOR(arrived),
  SIZE => INTERVAL '0.1' SECOND))
GROUP BY window_start, window_end, `partition`;

-- step: out
INSERT INTO dead_letters
SELECT letter.`key`, letter.`value`
FROM event_batches CROSS JOIN UNNEST(event_batches.rejected) AS letter (`key`, `value`);
