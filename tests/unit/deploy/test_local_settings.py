"""The platform's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from deploy.local.settings import LocalSettings, PortRange, aws_environment, jar_cache, wheel_cache
from schemas.errors import SettingError


def test_the_defaults_are_the_documented_ports_on_loopback() -> None:
    """Without any variable: the ports that the documentation and the demo name."""
    settings = LocalSettings.from_environment({})

    assert settings.kafka.address == "127.0.0.1:29092"
    assert settings.kafka_controller.number == 29093
    assert settings.aws.url == "http://127.0.0.1:25000"
    assert settings.personalize.url == "http://127.0.0.1:28500"
    assert settings.opensearch.url == "http://127.0.0.1:29200"
    assert settings.postgresql.address == "127.0.0.1:25432"
    assert settings.dynamodb.url == "http://127.0.0.1:28000"
    assert settings.services.url == "http://127.0.0.1:28600"
    assert settings.flink.url == "http://127.0.0.1:28081"
    assert (settings.taskmanagers, settings.task_slots) == (2, 1)
    assert settings.home == Path.cwd() / ".tunemesh"
    assert settings.jar_cache == Path.home() / ".cache/tunemesh/jars"


def test_each_port_moves_with_its_own_variable() -> None:
    """The variable that a port names is the one that changes it."""
    for number, port in enumerate(LocalSettings.from_environment({}).ports(), start=41000):
        moved = LocalSettings.from_environment({port.variable: str(number)})
        assert {p.variable: p.number for p in moved.ports()}[port.variable] == number


def test_a_relative_home_counts_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State goes where the user is, also when the path is relative."""
    monkeypatch.chdir(tmp_path)

    settings = LocalSettings.from_environment({"TUNEMESH_HOME": "elsewhere"})

    assert settings.home == tmp_path / "elsewhere"
    assert settings.data("kafka") == tmp_path / "elsewhere" / "data" / "kafka"
    assert settings.log("kafka") == tmp_path / "elsewhere" / "logs" / "kafka.log"


@pytest.mark.parametrize("value", ["x", "0", "65536", "-1", "29092.5", "\uff12\uff19"])
def test_a_bad_port_is_refused_with_its_name_and_value(value: str) -> None:
    """The message names the variable, the value, and what was expected."""
    with pytest.raises(SettingError) as caught:
        LocalSettings.from_environment({"TUNEMESH_AWS_PORT": value})
    expected = "expected a whole number from 1 to 65535"
    assert str(caught.value) == f"TUNEMESH_AWS_PORT is {value!r}; {expected}"


@pytest.mark.parametrize(
    ("variable", "field", "high"),
    [
        ("TUNEMESH_TASKMANAGERS", "taskmanagers", 16),
        ("TUNEMESH_TASK_SLOTS", "task_slots", 16),
        ("TUNEMESH_START_SECONDS", "start_seconds", 3600),
        ("TUNEMESH_STOP_SECONDS", "stop_seconds", 600),
    ],
)
def test_a_number_has_a_range(variable: str, field: str, high: int) -> None:
    """Both ends are valid; an empty variable is like none."""
    for value in (1, high):
        settings = LocalSettings.from_environment({variable: str(value)})
        assert getattr(settings, field) == value
    for text in ("0", str(high + 1), "x"):
        with pytest.raises(SettingError, match=f"{variable} is '{text}'; .* from 1 to {high}"):
            LocalSettings.from_environment({variable: text})
    assert LocalSettings.from_environment({variable: " "}) == LocalSettings.from_environment({})


def test_two_parts_on_one_port_are_refused() -> None:
    """Before anything starts, and with both names."""
    with pytest.raises(SettingError, match="TUNEMESH_KAFKA_PORT has the same"):
        LocalSettings.from_environment({"TUNEMESH_AWS_PORT": "29092"})


def test_prometheus_gets_no_ports_unless_they_are_named() -> None:
    """Flink's reporter cannot be limited to loopback, so it must be enabled explicitly."""
    assert LocalSettings.from_environment({}).prometheus is None
    named = LocalSettings.from_environment({"TUNEMESH_PROMETHEUS_PORTS": "29250-29252"})
    assert named.prometheus == PortRange(29250, 29252)


@pytest.mark.parametrize(
    "value", ["29250", "29250-29251", "29252-29250", "x-y", "0-9", "65530-65540", "29090-29095"]
)
def test_ports_for_prometheus_are_enough_and_unused(value: str) -> None:
    """One for each process of Flink, none of another part."""
    with pytest.raises(SettingError, match=f"TUNEMESH_PROMETHEUS_PORTS is '{value}'; expected"):
        LocalSettings.from_environment({"TUNEMESH_PROMETHEUS_PORTS": value})


@pytest.mark.parametrize(("cache", "name"), [(jar_cache, "jar"), (wheel_cache, "wheel")])
def test_the_caches_are_the_users(cache: Callable[[Mapping[str, str]], Path], name: str) -> None:
    """The variable wins over XDG_CACHE_HOME, which wins over ~/.cache."""
    assert cache({"XDG_CACHE_HOME": "/x", f"TUNEMESH_{name.upper()}_CACHE": "/t"}) == Path("/t")
    assert cache({"XDG_CACHE_HOME": "/x"}) == Path(f"/x/tunemesh/{name}s")
    assert cache({}) == Path.home() / f".cache/tunemesh/{name}s"


def test_child_processes_talk_to_this_machine_only() -> None:
    """No client of a child process can reach the real AWS: endpoints and credentials are local."""
    settings = LocalSettings.from_environment({"TUNEMESH_AWS_PORT": "40001"})
    environment = aws_environment(settings)

    for service in ("GLUE", "FIREHOSE", "S3"):
        assert environment[f"AWS_ENDPOINT_URL_{service}"] == "http://127.0.0.1:40001"
    endpoints = [value for name, value in environment.items() if "ENDPOINT" in name]
    assert len(endpoints) == 10
    assert all(value.startswith("http://127.0.0.1:") for value in endpoints)
    assert environment["AWS_EC2_METADATA_DISABLED"] == "true"
