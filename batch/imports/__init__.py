"""From a bootstrap output to a campaign: Personalize's resources and imports, idempotently.

run          all steps in their order
plan         names, schemas, attempts (pure)
output       the bootstrap output that is imported
ensure       resources of a fixed name
attempts     import jobs and trainings, once for each content
calls        repeated calls, and waits
states       waits for a status
"""
