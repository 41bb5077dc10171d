"""The address of a sink: what a manifest's `ref` or `uri` is resolved to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from orderflow.errors import BadSettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orderflow_sandbox.delivery.manifest import Destination

CLUSTER_ADDRESS = "http://{name}.{namespace}.svc.cluster.local"


@dataclass(frozen=True, slots=True)
class Sink:
    """`url` names the sink (it becomes `knativeerrordest`); `authority` is the Host header."""

    url: str
    host: str
    port: int
    tls: bool
    authority: str
    path: str


Resolver = Callable[["Destination"], Sink]


def resolver(
    *,
    namespace: str,
    sink_url: str = CLUSTER_ADDRESS,
    host_template: str | None = None,
    sinks: Mapping[str, str] | None = None,
) -> Resolver:
    """`sink_url` and `host_template` may contain {name} and {namespace}.

    With `host_template`, all Services are reached at `sink_url`, each with its own Host header, as behind an ingress.
    `sinks` has the addresses of Services that are reached elsewhere, by name.
    """

    def resolve(destination: Destination) -> Sink:
        ref = destination.ref
        if ref is None:
            return _sink(destination.uri or "")
        names = {"name": ref.name, "namespace": ref.namespace or namespace}
        direct = (sinks or {}).get(ref.name)
        address = direct or sink_url.format_map(names)
        authority = None if direct or host_template is None else host_template.format_map(names)
        return _sink(urljoin(address, destination.uri) if destination.uri else address, authority)

    return resolve


def _sink(url: str, authority: str | None = None) -> Sink:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise BadSettingsError(f"{url!r} is no address of a sink: needs http:// or https:// and a host")
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Sink(
        url=url if authority is None else f"{parts.scheme}://{authority}{parts.path}",
        host=parts.hostname,
        port=parts.port or (443 if tls else 80),
        tls=tls,
        authority=authority or parts.netloc.rpartition("@")[2],
        path=path,
    )


def redirected(sink: Sink, location: str) -> Sink:
    """The sink at a Location header. A relative one has the same address as `sink`."""
    parts = urlsplit(location)
    if parts.netloc:
        return _sink(location)
    path = urljoin(sink.path, location)
    return Sink(sink.url, sink.host, sink.port, sink.tls, sink.authority, path)
