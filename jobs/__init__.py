"""The plane in motion: the PyFlink pipelines.

    users  songs  podcasts  interactions
         |      |       |         |            decode: one Python call an event
         +------+---+---+---------+            (jobs/decode.py, jobs/functions.py)
                    |         \\---------> dead-letters
                 enrich                        join in the JVM (jobs/enrichment.sql)
                    |
          interactions-enriched
                    |                          micro-batches in the JVM, the sink engine in Python
                recommend                      (jobs/recommendations.sql, connectors/delivery)
                    |         \\---------> dead-letters
           Personalize PutEvents

``jobs.main`` says which pipelines an application runs.
"""
