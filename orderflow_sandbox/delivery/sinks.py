"""Where a sink is: what a `ref` or `uri` of a manifest means as an address to connect to."""

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
    """An address to POST to.

    url is what the sink is called (it becomes `knativeerrordest`), host and port are where to
    connect, authority is the Host header.
    """

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
    """Templates take {name} and {namespace}.

    With host_template every Service is reached at sink_url under its own Host, as behind an
    ingress. sinks maps a Service's name to an address of its own.
    """

    def resolve(destination: Destination) -> Sink:
        ref = destination.ref
        if ref is None:
            return _sink(destination.uri or "")
        names = {"name": ref.name, "namespace": ref.namespace or namespace}
        own = (sinks or {}).get(ref.name)
        address = own or sink_url.format_map(names)
        authority = None if own or host_template is None else host_template.format_map(names)
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
    """The sink that a Location header leads to; a relative one stays at the same address."""
    parts = urlsplit(location)
    if parts.netloc:
        return _sink(location)
    path = urljoin(sink.path, location)
    return Sink(sink.url, sink.host, sink.port, sink.tls, sink.authority, path)
