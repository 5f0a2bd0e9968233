-- Key and value of a `left_over`, the text of jobs/micro_batch/left_over.py; a missing key is null.
  ENCODE(
    SUBSTRING(left_over FROM 9 FOR TRY_CAST(SUBSTRING(left_over FROM 2 FOR 7) AS INT)), 'ISO-8859-1'),
  ENCODE(
    SUBSTRING(left_over FROM 9 + COALESCE(TRY_CAST(SUBSTRING(left_over FROM 2 FOR 7) AS INT), 0)),
    'ISO-8859-1')
