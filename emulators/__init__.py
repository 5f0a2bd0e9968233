"""Emulators of AWS services for one machine, independent of tunemesh.

personalize      Amazon Personalize: events, recommendations and the control plane; a process
aws              Glue, Lake Formation, Firehose and S3, by moto with durability added; a process
managed_flink    the API of Managed Service for Apache Flink (kinesisanalyticsv2), for tests

Clients are boto3, or any other client of the wire protocol, with another endpoint URL. What the
emulators share is in this folder: `errors` (the services' errors), `validation` (request bodies
against botocore's service models) and `faults` (failures on demand).

Each emulator implements the documented rules of its service and refuses what it does not offer; its
own module lists the differences. They agree with the documentation and with botocore's models;
nothing has been compared with the services themselves.
"""
