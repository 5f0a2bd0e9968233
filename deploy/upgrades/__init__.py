"""Applications on a target: submitted, upgraded by snapshot, verified, rolled back automatically.

target.py           the interface of targets
machine.py          the steps of an upgrade, over any target; journal.py lets it be resumed
orders.py           the next order of a step, by the application's state
planning.py         the wanted version, its state, the findings of preflight.py
verification.py     whether the new version works as well as the former one (pure)
plans.py            whether state fits another plan (pure)
managed_flink.py    the target Amazon Managed Service for Apache Flink
local_cluster.py    the target local cluster; local_change.py carries out its changes
"""
