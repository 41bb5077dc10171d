"""What a sink's ref or uri means as an address."""

import pytest

from orderflow.errors import BadSettingsError
from orderflow_sandbox.delivery.manifest import Destination
from orderflow_sandbox.delivery.sinks import redirected, resolver


def destination(**parts: object) -> Destination:
    return Destination.model_validate(parts)


REF = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "track"}


def test_a_service_is_reached_at_its_cluster_address() -> None:
    sink = resolver(namespace="orderflow")(destination(ref=REF))
    assert sink.url == "http://track.orderflow.svc.cluster.local"
    assert (sink.host, sink.port, sink.path) == ("track.orderflow.svc.cluster.local", 80, "/")
    assert sink.authority == "track.orderflow.svc.cluster.local"


def test_a_refs_own_namespace_wins() -> None:
    sink = resolver(namespace="orderflow")(destination(ref={**REF, "namespace": "other"}))
    assert sink.host == "track.other.svc.cluster.local"


def test_behind_an_ingress_the_host_header_tells_services_apart() -> None:
    resolve = resolver(
        namespace="orderflow",
        sink_url="http://127.0.0.1:8080",
        host_template="{name}.{namespace}.svc.cluster.local",
    )
    sink = resolve(destination(ref=REF))
    assert (sink.host, sink.port) == ("127.0.0.1", 8080)
    assert sink.authority == "track.orderflow.svc.cluster.local"
    assert sink.url == "http://track.orderflow.svc.cluster.local"


def test_an_address_given_for_one_service_passes_the_ingress_by() -> None:
    resolve = resolver(
        namespace="orderflow",
        sink_url="http://127.0.0.1:8080",
        host_template="{name}",
        sinks={"track": "http://127.0.0.1:9000"},
    )
    sink = resolve(destination(ref=REF))
    assert (sink.port, sink.authority, sink.url) == (9000, "127.0.0.1:9000", "http://127.0.0.1:9000")


def test_a_relative_uri_is_a_path_at_the_service() -> None:
    sink = resolver(namespace="orderflow")(destination(ref=REF, uri="/events?x=1"))
    assert sink.path == "/events?x=1"


def test_an_absolute_uri_stands_alone() -> None:
    sink = resolver(namespace="orderflow")(destination(uri="https://example.com/in"))
    assert (sink.host, sink.port, sink.tls, sink.path) == ("example.com", 443, True, "/in")


def test_an_address_without_a_host_is_refused() -> None:
    with pytest.raises(BadSettingsError, match="no address of a sink"):
        resolver(namespace="orderflow", sink_url="track")(destination(ref=REF))


@pytest.mark.parametrize(
    ("location", "port", "path"),
    [("/there", 80, "/there"), ("http://other:81/x", 81, "/x"), ("there", 80, "/a/there")],
)
def test_a_redirect_is_resolved_against_the_sink(location: str, port: int, path: str) -> None:
    sink = resolver(namespace="orderflow")(destination(uri="http://example.com/a/b"))
    target = redirected(sink, location)
    assert (target.port, target.path) == (port, path)
