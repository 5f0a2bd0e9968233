"""DynamoDB on the local platform, with streams: DynamoDB Local from the jars of pom-deps.txt.

Its main class listens on every interface and accepts no host. But DynamoDB Local is a handler of a
Jetty server, and Jetty has a main class that builds a server from an XML file. The generated file
builds the same server as DynamoDB Local's main class, on loopback, and without the telemetry, which
only that main class enables.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from connectors.flink.java import Java
from connectors.flink.java import find as find_java
from deploy.local import jars
from deploy.local.log4j import write_log4j
from deploy.local.process import Launch, Server, is_listening
from deploy.local.settings import ACCESS_KEY, HOST, REGION, SECRET_KEY, LocalSettings
from schemas.errors import TunemeshError

NAME = "dynamodb"
JAR_SET = "dynamodb"
SQLITE = "libsqlite4java-linux-amd64"
"""DynamoDB Local stores its data with this native library; only this platform's is listed."""

SERVER_XML = """\
<?xml version="1.0"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN"
  "https://jetty.org/configure_12_0.dtd">
<Configure id="Server" class="org.eclipse.jetty.server.Server">
  <Call name="addConnector">
    <Arg>
      <New class="org.eclipse.jetty.server.ServerConnector">
        <Arg><Ref refid="Server"/></Arg>
        <Set name="host">{host}</Set>
        <Set name="port">{port}</Set>
      </New>
    </Arg>
  </Call>
  <Set name="handler">
    <New class="org.eclipse.jetty.server.handler.ContextHandler">
      <Set name="virtualHosts"> <!-- requests to other names are not answered -->
        <Call class="java.util.List" name="of"><Arg>{host}</Arg><Arg>localhost</Arg></Call>
      </Set>
      <Set name="handler">
        <New class="{package}.server.LocalDynamoDBServerHandler">
          <Arg>
            <New class="{package}.server.LocalDynamoDBRequestHandler">
              <Arg type="int">0</Arg>
              <Arg type="boolean">false</Arg> <!-- not in memory: in the folder ... -->
              <Arg type="String">{data}</Arg>
              <Arg type="boolean">true</Arg> <!-- ... one database for all keys and regions -->
              <Arg type="boolean">false</Arg> <!-- tables are active at once -->
            </New>
          </Arg>
          <Arg type="String">{origin}</Arg> <!-- the origin of pages that may read -->
        </New>
      </Set>
    </New>
  </Set>
</Configure>
"""


class DynamoDbError(TunemeshError):
    """DynamoDB Local cannot run here."""


def servers(settings: LocalSettings, environ: Mapping[str, str]) -> tuple[Server, ...]:
    """Return the server."""
    java = find_java(environ)
    return (
        Server(
            name=NAME,
            ports=(settings.dynamodb,),
            address=settings.dynamodb.url,
            prepare=lambda: _prepare(settings, java),
            is_healthy=lambda: _is_answering(settings),
        ),
    )


def server_xml(settings: LocalSettings) -> str:
    """Return the server as Jetty's XML."""
    return SERVER_XML.format(
        host=HOST,
        port=settings.dynamodb.number,
        origin=settings.dynamodb.url,
        data=escape(str(settings.data(NAME))),
        package="software.amazon.dynamodb.services.local",
    )


def _prepare(settings: LocalSettings, java: Java) -> Launch:
    folder = settings.run / "dynamodb-conf"
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "jetty.xml"
    configuration.write_text(server_xml(settings), encoding="utf-8")
    log_properties = write_log4j(folder / "log4j2.properties", "warn")
    return Launch(
        (
            str(java.executable),
            "-Xms64m",
            "-Xmx256m",
            "-XX:+UseSerialGC",
            f"-Dlog4j2.configurationFile={log_properties}",
            f"-Dsqlite4java.library.path={_native_folder(settings.jar_cache)}",
            "-cp",
            jars.class_path(JAR_SET, settings.jar_cache),
            "org.eclipse.jetty.xml.XmlConfiguration",
            str(configuration),
        ),
        {},
    )


def _native_folder(cache: Path) -> Path:
    """Return the folder of the native library, which is no jar and not on the class path."""
    for path in jars.paths(JAR_SET, cache):
        if path.name.startswith(SQLITE):
            return path.parent
    raise DynamoDbError(f"pom-deps.txt has no {SQLITE} in the set {JAR_SET}.")


def _is_answering(settings: LocalSettings) -> bool:
    if not is_listening(settings.dynamodb):
        return False
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        create_client(settings, "dynamodb").list_tables(Limit=1)
    except (BotoCoreError, ClientError):
        return False
    return True


def create_client(settings: LocalSettings, service: str) -> Any:
    """Return a boto3 client of the platform's `dynamodb` or `dynamodbstreams`."""
    import boto3
    from botocore.config import Config

    session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
    return session.client(
        service,
        endpoint_url=settings.dynamodb.url,
        config=Config(
            connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}, proxies={}
        ),
    )
