"""An emulator of Amazon Personalize: events, runtime and control-plane APIs on 127.0.0.1.

    python -m emulators.personalize --port 28500 --data DIR
        [--faults FILE.json] [--quota put_events=1000 ...] [--credentials KEY:SECRET ...]
        [--denied-key KEY ...] [--unknown-key KEY ...]
        [--s3-endpoint URL] [--step-seconds S] [--training-interactions N]

It implements the wire protocol (boto3 with another `endpoint_url`), enforces the limits of
botocore's service model and the quotas, stores what it accepts in SQLite, and recommends from it.

Offered: PutEvents, PutUsers, PutItems, GetRecommendations and GetPersonalizedRanking (both with
filters), and the control plane (`emulators.personalize.control`). The operations on actions are
validated and then refused with a modelled error. Promotions, metadata columns, context,
recommenders and related items are refused, not ignored.

It is stricter than the service where the service loses data silently or where its behaviour is not
documented: it refuses members that are not in the model, events without an item, and nested values
in `properties`.

Additional routes for tests and tools (JSON, or one JSON object per line; no signature; `after` is
the last `rowid` seen, `limit` is 1 to 10,000, default 1,000):

    GET    /_local/health                   200 {"status": "ready"} once stored data is loaded
    GET    /_local/stats                    counts; see `Service.stats` in server.py
    GET    /_local/events?after=&limit=     accepted events in the order of acceptance
    GET    /_local/ignored?after=&limit=    accepted with 200 but not stored as events: reason
                                            `null_session`, or `identical` (`same_as` is then the
                                            event that was stored)
    GET    /_local/users?after=&limit=      the users: the last PutUsers of each
    GET    /_local/items?after=&limit=      the items: the last PutItems of each
    GET    /_local/imported/KIND?after=&limit=    imported users, items or interactions, by column
    PUT    /_local/faults                   replaces the fault plan and resets its counts
    GET    /_local/faults                   the plan, and how often each rule matched and fired
    DELETE /_local/faults                   removes the plan

`group=NAME` selects another dataset group than the one that exists from the start.

A second event with the same `eventId` has no row of its own: it increments `duplicates` of the
first. `accepted_at` and `sent_at` are milliseconds since 1970, `accepted_at` by this machine's
clock at the start of the transaction that made it durable.
"""
