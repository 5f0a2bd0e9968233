"""The local platform: the real services behind the streams, on 127.0.0.1, without Docker.

settings.py       folders, ports and limits
jars.py           downloads the jars that services run from
process.py        starts, finds and stops server processes
services.py       the services, each with its servers
platform.py       starts, observes and stops services
application.py    topics, schemas, properties and job of an application
"""
