-- Recommendations: interactions-enriched -> PutEvents, dead-letters.
--
-- Tables (connectors/kafka.py): recommendations_enriched is raw records; dead_letters is the sink.
-- Functions (jobs/delivery.py): deliver_events, one call a micro-batch; it returns when each record
-- has been accepted or rejected, so that a checkpoint covers what it was given.

-- step: batch
-- Micro-batches, a tenth of a second each, in 16 buckets by a hash of the key: all of a user's events
-- are in one, so their order stays, and the buckets spread over the subtasks. While a batch is on its
-- way the next one grows.
--
-- A batch is one text, a piece a record: partition, offset, timestamp, length of the key (-1: none),
-- length of the value, a blank after each, then key and value as Latin-1. (ARRAY_AGG would be the
-- obvious way. In Flink 2.2.1 over a processing-time window it keeps rows that are used again: a batch
-- came out as its last record many times.)
CREATE TEMPORARY VIEW event_batches AS
SELECT deliver_events(LISTAGG(piece, '')) AS rejected
FROM TABLE(TUMBLE(
  DATA => (
    SELECT ASCII(MD5(COALESCE(key_text, ''))) AS bucket,
      CAST(`partition` AS STRING) || ' ' || CAST(`offset` AS STRING) || ' '
        || CAST(EXTRACT(EPOCH FROM `timestamp`) * 1000 + EXTRACT(MILLISECOND FROM `timestamp`)
          AS STRING) || ' '
        || CAST(COALESCE(CHAR_LENGTH(key_text), -1) AS STRING) || ' '
        || CAST(CHAR_LENGTH(value_text) AS STRING) || ' '
        || COALESCE(key_text, '') || value_text AS piece,
      PROCTIME() AS arrived
    FROM (
      SELECT `partition`, `offset`, `timestamp`, DECODE(`key`, 'ISO-8859-1') AS key_text,
        COALESCE(DECODE(`value`, 'ISO-8859-1'), '') AS value_text
      FROM recommendations_enriched
    )
  ),
  TIMECOL => DESCRIPTOR(arrived),
  SIZE => INTERVAL '0.1' SECOND))
GROUP BY window_start, window_end, bucket;

-- step: out
INSERT INTO dead_letters
SELECT letter.`key`, letter.`value`
FROM event_batches CROSS JOIN UNNEST(event_batches.rejected) AS letter (`key`, `value`);
