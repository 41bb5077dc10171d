"""What a container becomes as a local process: its arguments and its environment.

Two things differ from the pod, because all instances share one machine: the
value after `--port` (or in `--port=`) that names the containerPort becomes the
instance's own port, and the value after `--host` becomes 127.0.0.1. HOST says
the same to the `functions-framework` command, as PORT does.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orderflow_sandbox.serving.manifest import Container, ManifestError, Template, ValueSource, Variable

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

    Raises:
        ManifestError: a variable's value is only in the cluster and the sandbox gives none.
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
    words = (expand(word, env) for word in (*container.command, *container.args))
    argv = tuple(_on_this_machine(words, container.port, port))
    return Launch(argv, env)


def expand(text: str, env: Mapping[str, str]) -> str:
    """Kubernetes' `$(NAME)`, which stays as it is where NAME is unknown; `$$` is one `$`."""

    def value(found: re.Match[str]) -> str:
        name = found["name"]
        return "$" if name is None else env.get(name, found[0])

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
        value = _referred_to(variable, service, options, config_maps)
        if value is not None:
            env[variable.name] = value
    _check_mounts(env, container, service, options)
    return env


def _check_mounts(
    env: Mapping[str, str], container: Container, service: str, options: ServingOptions
) -> None:
    """A file that only a pod has needs a value of the sandbox."""
    for name, value in env.items():
        for mount in container.volume_mounts:
            if value == mount.mount_path or value.startswith(f"{mount.mount_path}/"):
                _must_be_overridden(name, f"mount {mount.name}", service, options)


def _referred_to(
    variable: Variable,
    service: str,
    options: ServingOptions,
    config_maps: Mapping[str, Mapping[str, str]],
) -> str | None:
    """The value of one key of a ConfigMap; None where the sandbox' own value takes its place."""
    source = variable.value_from or ValueSource()
    in_map, in_secret = source.config_map_key_ref, source.secret_key_ref
    if in_map is not None and (found := config_maps.get(in_map.name, {}).get(in_map.key)) is not None:
        return found
    key = in_map or in_secret
    if key is not None and not key.optional:
        kind = "ConfigMap" if in_map else "Secret"
        _must_be_overridden(variable.name, f"{kind} {key.name}", service, options)
    return None


def _must_be_overridden(name: str, where: str, service: str, options: ServingOptions) -> None:
    if name not in options.overrides:
        raise ManifestError(
            f"{service}: env {name}: {where} is only in the cluster; give the sandbox a value"
        )


def _on_this_machine(words: Iterator[str], declared: int, port: int) -> Iterator[str]:
    before = ""
    for word in words:
        if before == "--port" and word == str(declared):
            yield str(port)
        elif before == "--host":
            yield LOOPBACK
        elif word == f"--port={declared}":
            yield f"--port={port}"
        elif word.startswith("--host="):
            yield f"--host={LOOPBACK}"
        else:
            yield word
        before = word
