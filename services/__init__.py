"""The domains' back ends: AWS Lambda handlers that store changes and publish them.

    HTTP event       users         -> PostgreSQL: the record and the outbox, one transaction
                     items         -> DynamoDB, any item domain
                     interactions  -> Kafka
    schedule         outbox        PostgreSQL's outbox -> Kafka
    DynamoDB Streams item_stream   -> Kafka

What a domain accepts, stores and publishes follows from its contract. Producers are independent of
consumers.
"""
