"""An emulator of AWS services in one process: Glue, Lake Formation, Firehose and S3, by moto.

moto handles the calls; this package adds what moto lacks: state that outlasts a restart, in files
(:mod:`emulators.aws.state`, :mod:`emulators.aws.objects`), and Firehose's limits and failures on
demand (:mod:`emulators.aws.firehose`).
"""

HOST = "127.0.0.1"
REGION = "us-east-1"
ACCOUNT = "000000000000"
HEALTH = "/_local/health"
