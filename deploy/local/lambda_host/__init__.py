"""The domains' back ends on the local platform: what AWS runs around Lambda handlers, in a process.

An HTTP API in front of the handlers (:mod:`deploy.local.lambda_host.gateway`), the event source
mappings of DynamoDB Streams (:mod:`deploy.local.lambda_host.event_source`), and the publisher of
the outbox, which runs continuously here. Needs kafka, aws, postgresql and dynamodb.
"""
