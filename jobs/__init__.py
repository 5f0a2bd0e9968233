"""Streaming applications: SQL, its functions, settings and compiled plans.

    users  songs  podcasts  interactions
         |      |       |         |            decode: one Python call an event
         +------+---+---+---------+            (jobs/decode.py, jobs/decode_functions.py)
                    |         \\---------> dead-letters
                 enrich                        join in the JVM (jobs/enrichment.sql)
                    |
          interactions-enriched
                    |                          micro-batches in the JVM, the sink engine in Python
                recommend                      (jobs/recommendations.sql, connectors/delivery)
                    |         \\---------> dead-letters
           Personalize PutEvents

``jobs.main`` starts the pipelines of an application.
"""
