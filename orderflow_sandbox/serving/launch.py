"""A container as a local process: its arguments and its environment.

Two things differ from a pod, because all instances share one machine. Where `--port` names the containerPort, it gets
the instance's own port, and `--host` gets 127.0.0.1. The variables PORT and HOST have the same values, for the
`functions-framework` command.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orderflow_sandbox.serving.errors import ManifestError
from orderflow_sandbox.serving.service import Container, Template, ValueSource, Variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orderflow_sandbox.serving.options import ServingOptions

LOOPBACK = "127.0.0.1"
_REFERENCE = re.compile(r"\$(\$|\((?P<name>[-._A-Za-z0-9]+)\))")


@dataclass(frozen=True)
class Launch:
    """One process to start."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


def launch(
    template: Template,
    identity: tuple[str, str],
    port: int,
    options: ServingOptions,
    config_maps: Mapping[str, Mapping[str, str]],
) -> Launch:
    """Arguments and environment of one process; `identity` is (service, revision).

    Raises ManifestError where the value of a variable exists only in the cluster and the sandbox has none.
    """
    container = template.container
    service, revision = identity
    env = dict(_image_environment(options))
    env |= _declared(container, service, options, config_maps)
    env |= options.overrides
    env |= {
        "PYTHONPATH": str(options.root),
        "HOST": LOOPBACK,
        "PORT": str(port),
        "K_SERVICE": service,
        "K_REVISION": revision,
        "K_CONFIGURATION": service,
    }
    arguments = (expand(each, env) for each in (*container.command, *container.args))
    argv = tuple(_on_this_machine(arguments, container.port, port))
    return Launch(argv, env)


def expand(text: str, env: Mapping[str, str]) -> str:
    """Expands Kubernetes' `$(NAME)`. An unknown NAME stays as it is; `$$` is one `$`."""

    def value(match: re.Match[str]) -> str:
        name = match["name"]
        return "$" if name is None else env.get(name, match[0])

    return _REFERENCE.sub(value, text)


def _image_environment(options: ServingOptions) -> dict[str, str]:
    env = dict(options.environ)
    beside_python = str(options.python.parent)
    env["PATH"] = os.pathsep.join([beside_python, env.get("PATH", os.defpath)])
    env.setdefault("HOME", str(options.state))
    env.setdefault("PYTHONUNBUFFERED", "1")
    return env


def _declared(
    container: Container,
    service: str,
    options: ServingOptions,
    config_maps: Mapping[str, Mapping[str, str]],
) -> dict[str, str]:
    env: dict[str, str] = {}
    for source in container.env_from:
        name = source.config_map_ref.name
        if name not in config_maps and not source.config_map_ref.optional:
            raise ManifestError(f"{service}: envFrom: there is no ConfigMap {name}")
        env |= {source.prefix + key: value for key, value in config_maps.get(name, {}).items()}
    for variable in container.env:
        if variable.value_from is None:
            env[variable.name] = expand(variable.value, env)
            continue
        value = _value_from(variable, service, options, config_maps)
        if value is not None:
            env[variable.name] = value
    _check_mounts(env, container, service, options)
    return env


def _check_mounts(
    env: Mapping[str, str], container: Container, service: str, options: ServingOptions
) -> None:
    """A variable that names a file of a pod needs a value of the sandbox."""
    for name, value in env.items():
        for mount in container.volume_mounts:
            if value == mount.mount_path or value.startswith(f"{mount.mount_path}/"):
                _require_override(name, f"mount {mount.name}", service, options)


def _value_from(
    variable: Variable,
    service: str,
    options: ServingOptions,
    config_maps: Mapping[str, Mapping[str, str]],
) -> str | None:
    """The value of a key of a ConfigMap; None where the sandbox has a value of its own."""
    source = variable.value_from or ValueSource()
    in_map, in_secret = source.config_map_key_ref, source.secret_key_ref
    if in_map is not None and (value := config_maps.get(in_map.name, {}).get(in_map.key)) is not None:
        return value
    key = in_map or in_secret
    if key is not None and not key.optional:
        kind = "ConfigMap" if in_map else "Secret"
        _require_override(variable.name, f"{kind} {key.name}", service, options)
    return None


def _require_override(name: str, source: str, service: str, options: ServingOptions) -> None:
    if name not in options.overrides:
        raise ManifestError(
            f"{service}: env {name}: {source} is only in the cluster; give the sandbox a value"
        )


def _on_this_machine(arguments: Iterator[str], declared_port: int, port: int) -> Iterator[str]:
    previous = ""
    for argument in arguments:
        if previous == "--port" and argument == str(declared_port):
            yield str(port)
        elif previous == "--host":
            yield LOOPBACK
        elif argument == f"--port={declared_port}":
            yield f"--port={port}"
        elif argument.startswith("--host="):
            yield f"--host={LOOPBACK}"
        else:
            yield argument
        previous = argument
