"""The metric group of Python functions; no pyflink here."""

GROUPS = ("kinesisanalytics", "tunemesh")
"""The groups that Python's metrics are in; in the second, the label ``function``."""

LABEL = "function"
