"""The Log4j configuration of Java servers, which log to the console."""

from __future__ import annotations

from pathlib import Path

_PROPERTIES = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{{yyyy-MM-dd HH:mm:ss,SSS}} %-5p %c{{1.}} %x - %m%n
rootLogger.level = {level}
rootLogger.appenderRef.console.ref = console
"""


def write_log4j(file: Path, level: str = "info", **loggers: tuple[str, str]) -> Path:
    """Write a configuration; ``loggers``: the name and the level of further loggers."""
    lines = [
        f"logger.{key}.name = {name}\nlogger.{key}.level = {logger_level}\n"
        for key, (name, logger_level) in loggers.items()
    ]
    file.write_text(_PROPERTIES.format(level=level) + "".join(lines), encoding="utf-8")
    return file
