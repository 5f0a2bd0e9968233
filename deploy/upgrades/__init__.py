"""Applications on a target: submitted, upgraded by snapshot, verified, rolled back by themselves.

target.py           what an application runs on, as narrow as the upgrade needs it
machine.py          the one way of an upgrade, over any target; its journal lets it be resumed
orders.py           the next order of a step, by what the application is now
planning.py         what a change would be: the version wanted, its state, preflight's findings
verification.py     whether the new version does what the former did (pure)
preflight.py        what is looked at before anything is touched; plans.py compares plans (pure)
managed_flink.py    Amazon Managed Service for Apache Flink
local_cluster.py    the laptop's standalone cluster
"""
