"""A container becomes a process with the environment a pod would have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orderflow_sandbox.serving import ManifestError, ServingOptions
from orderflow_sandbox.serving.launch import Launch, expand, launch
from orderflow_sandbox.serving.service import Template

MAPS = {"orderflow": {"KAFKA_BOOTSTRAP": "cluster:9092", "LOG_LEVEL": "INFO"}}


def started(container: dict[str, Any], overrides: dict[str, str] | None = None) -> Launch:
    template = Template.model_validate({"spec": {"containers": [{"image": "x", **container}]}})
    options = ServingOptions(root=Path("/repo"), state=Path("/state"), overrides=overrides or {})
    return launch(template, ("track", "track-00002"), 21007, options, MAPS)


def test_the_port_and_host_arguments_become_the_instances_own() -> None:
    args = ["--host", "0.0.0.0", "--port", "8080", "--timeout-keep-alive", "8080"]  # noqa: S104
    assert started({"command": ["serve"], "args": args}).argv == (
        ("serve", "--host", "127.0.0.1", "--port", "21007", "--timeout-keep-alive", "8080")
    )


def test_the_port_argument_is_known_by_the_container_port() -> None:
    container = {"command": ["serve", "--port=9000"], "ports": [{"containerPort": 9000}]}
    assert started(container).argv == ("serve", "--port=21007")


def test_a_process_knows_its_service_and_revision() -> None:
    env = started({"command": ["serve"]}).env
    assert (env["K_SERVICE"], env["K_CONFIGURATION"], env["K_REVISION"]) == ("track", "track", "track-00002")
    assert (env["PORT"], env["PYTHONPATH"]) == ("21007", "/repo")


def test_a_process_inherits_nothing_that_was_not_given() -> None:
    names = {"PATH", "HOME", "PYTHONUNBUFFERED", "PYTHONPATH", "HOST", "PORT"}
    names |= {"K_SERVICE", "K_REVISION", "K_CONFIGURATION"}
    assert set(started({"command": ["serve"]}).env) == names


def test_the_sandbox_value_wins_over_env_and_env_over_the_config_map() -> None:
    container = {
        "command": ["serve"],
        "env": [{"name": "LOG_LEVEL", "value": "DEBUG"}],
        "envFrom": [{"configMapRef": {"name": "orderflow"}}],
    }
    env = started(container, {"KAFKA_BOOTSTRAP": "127.0.0.1:9"}).env
    assert (env["KAFKA_BOOTSTRAP"], env["LOG_LEVEL"]) == ("127.0.0.1:9", "DEBUG")


@pytest.mark.parametrize(
    "container",
    [
        {"env": [{"name": "URL", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        {"env": [{"name": "URL", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]},
        {
            "env": [{"name": "URL", "value": "/etc/rules/rules.toml"}],
            "volumeMounts": [{"name": "rules", "mountPath": "/etc/rules"}],
        },
    ],
)
def test_a_value_that_only_a_cluster_has_must_come_from_the_sandbox(container: dict[str, Any]) -> None:
    container = {"command": ["serve"], **container}
    with pytest.raises(ManifestError, match="URL"):
        started(container)
    assert started(container, {"URL": "here"}).env["URL"] == "here"


def test_a_missing_config_map_is_named() -> None:
    with pytest.raises(ManifestError, match="no ConfigMap rules"):
        started({"command": ["serve"], "envFrom": [{"configMapRef": {"name": "rules"}}]})


@pytest.mark.parametrize(
    ("text", "expanded"),
    [("$(A)-x", "1-x"), ("$(B)", "$(B)"), ("$$(A)", "$(A)"), ("$A", "$A")],
)
def test_references_expand_as_in_kubernetes(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded
