"""An emulator of AWS services in one process: Glue, Lake Formation, Firehose and S3, by moto.

moto answers; what it lacks is added here. State that must outlast a restart is kept in files
(:mod:`emulators.aws.state`, :mod:`emulators.aws.objects`), and Firehose's limits and failures on
demand precede moto (:mod:`emulators.aws.firehose`).
"""

HOST = "127.0.0.1"
REGION = "us-east-1"
ACCOUNT = "000000000000"
HEALTH = "/_local/health"
