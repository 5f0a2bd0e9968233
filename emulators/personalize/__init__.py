"""The local Personalize: Amazon Personalize's events, runtime and control-plane APIs on 127.0.0.1.

    python -m emulators.personalize --port 28500 --data DIR
        [--faults FILE.json] [--quota put_events=1000 ...] [--credentials KEY:SECRET ...]
        [--denied-key KEY ...] [--unknown-key KEY ...]
        [--s3-endpoint URL] [--step-seconds S] [--training-interactions N]

It speaks the real wire protocol (boto3 with another `endpoint_url`), enforces the limits of
botocore's service model and the quotas, keeps what it accepts in SQLite, and recommends from it.

Offered: PutEvents, PutUsers, PutItems, GetRecommendations and GetPersonalizedRanking (both with
filters), and the control plane (`emulators.personalize.control`). The operations on actions are
validated and then refused with a modelled error that says so. Promotions, metadata columns,
context, recommenders and related items are refused, never ignored.

Where it is stricter than the service on purpose, because the service would lose data in silence or
its behaviour is not documented: a member that the model does not know is refused; so is an event
without an item; so are nested values in `properties`.

The surface for tests, the demo and `tunemesh verify` (JSON, or one JSON object a line; no
signature; `after` is the last `rowid` seen, `limit` 1 to 10,000, default 1,000):

    GET    /_local/health                   200 {"status": "ready"} once what was stored is loaded
    GET    /_local/stats                    counts; see `Service.stats` in server.py
    GET    /_local/events?after=&limit=     accepted events in the order of acceptance
    GET    /_local/ignored?after=&limit=    answered 200 but kept out of the data set: reason
                                            `null_session`, or `identical` (then `same_as` is the
                                            event that was kept)
    GET    /_local/users?after=&limit=      the users as they stand: last PutUsers of each
    GET    /_local/items?after=&limit=      the items as they stand: last PutItems of each
    GET    /_local/imported/KIND?after=&limit=    what came in bulk: users, items or interactions,
                                            by column; not what was put
    PUT    /_local/faults                   a fault plan; replaces the one before, counts start at 0
    GET    /_local/faults                   the plan, and how often each rule matched and fired
    DELETE /_local/faults                   no more faults

`group=NAME` asks for another dataset group than the one that exists from the start.

A second event with an `eventId` seen before has no row of its own: it raises `duplicates` of the
first. `accepted_at` and `sent_at` are milliseconds since 1970, `accepted_at` by this machine's
clock at the start of the transaction that made it durable.
"""
