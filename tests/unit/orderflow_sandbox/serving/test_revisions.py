"""Revisions and routes follow Knative's Configuration and Route."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import pytest

from orderflow_sandbox.serving import ManifestError, Service
from orderflow_sandbox.serving.revisions import Revisions, Share
from orderflow_sandbox.serving.routes import Weighted, hosts

if TYPE_CHECKING:
    from pathlib import Path

    from orderflow_sandbox.serving.pool import Pool


def service(
    image: str = "one", traffic: list[dict[str, Any]] | None = None, name: str | None = None
) -> Service:
    spec: dict[str, Any] = {
        "template": {
            "metadata": {"name": name} if name else {},
            "spec": {"containers": [{"image": image, "command": ["run"]}]},
        }
    }
    if traffic is not None:
        spec["traffic"] = traffic
    return Service.model_validate(
        {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": "echo"},
            "spec": spec,
        }
    )


@pytest.fixture
def revisions(tmp_path: Path) -> Revisions:
    return Revisions.open(tmp_path / "serving.json")


def route(revisions: Revisions) -> tuple[Share, ...]:
    return revisions.services["echo"].route


def names(revisions: Revisions) -> list[str]:
    return [each.name for each in revisions.services["echo"].revisions]


def test_a_changed_template_makes_the_next_revision(revisions: Revisions) -> None:
    assert revisions.apply(service("one"))
    assert revisions.apply(service("two"))
    assert names(revisions) == ["echo-00001", "echo-00002"]


def test_the_same_template_makes_none(revisions: Revisions) -> None:
    revisions.apply(service())
    assert not revisions.apply(service())
    assert names(revisions) == ["echo-00001"]


def test_changed_traffic_alone_makes_none(revisions: Revisions) -> None:
    revisions.apply(service())
    assert not revisions.apply(service(traffic=[{"revisionName": "echo-00001", "percent": 100}]))


def test_going_back_to_an_old_template_makes_a_new_revision(revisions: Revisions) -> None:
    for image in ("one", "two", "one"):
        revisions.apply(service(image))
    assert names(revisions) == ["echo-00001", "echo-00002", "echo-00003"]


def test_the_latest_gets_traffic_only_once_it_has_been_ready(revisions: Revisions) -> None:
    revisions.apply(service("one"))
    state = revisions.services["echo"]
    assert route(revisions) == ()
    state.mark_ready("echo-00001")
    revisions.apply(service("two"))
    assert route(revisions) == (Share("echo-00001", 100),)
    state.mark_ready("echo-00002")
    assert route(revisions) == (Share("echo-00002", 100),)


def test_a_route_stays_until_every_revision_it_names_is_ready(revisions: Revisions) -> None:
    revisions.apply(service("one"))
    state = revisions.services["echo"]
    state.mark_ready("echo-00001")
    split = [{"revisionName": "echo-00001", "percent": 80}, {"revisionName": "echo-00002", "percent": 20}]
    revisions.apply(service("two", traffic=split))
    assert route(revisions) == (Share("echo-00001", 100),)
    state.mark_ready("echo-00002")
    assert route(revisions) == (Share("echo-00001", 80), Share("echo-00002", 20))


def test_traffic_to_a_missing_revision_is_refused_and_changes_nothing(revisions: Revisions) -> None:
    revisions.apply(service("one"))
    with pytest.raises(ManifestError, match=r"spec\.traffic\[0\]\.revisionName: echo-00009"):
        revisions.apply(service("two", traffic=[{"revisionName": "echo-00009", "percent": 100}]))
    assert names(revisions) == ["echo-00001"]


def test_a_name_of_the_templates_own_cannot_mean_two_templates(revisions: Revisions) -> None:
    revisions.apply(service("one", name="echo-blue"))
    with pytest.raises(ManifestError, match="echo-blue exists"):
        revisions.apply(service("two", name="echo-blue"))
    with pytest.raises(ManifestError, match="must begin with echo-"):
        revisions.apply(service("two", name="blue"))


def test_what_was_applied_is_there_after_a_restart(revisions: Revisions) -> None:
    revisions.apply(service("one"))
    revisions.services["echo"].mark_ready("echo-00001")
    revisions.apply(service("two"))
    again = Revisions.open(revisions.path)
    assert again.services == revisions.services
    assert not again.apply(service("two"))


def test_a_hundred_rolls_spread_as_the_percents_say() -> None:
    old, new, dark = (cast("Pool", name) for name in ("old", "new", "dark"))
    weighted = Weighted(((79, old), (0, dark), (21, new)))
    assert Counter(weighted.pick(float(roll)) for roll in range(100)) == {old: 79, new: 21}
    assert weighted.pick(99.999) == new


def test_a_cluster_local_service_has_no_name_outside() -> None:
    inside = ["echo.shop.svc.cluster.local", "echo.shop.svc", "echo.shop"]
    assert hosts("echo", "shop", "orderflow.localhost", cluster_local=True) == inside
    assert hosts("echo", "shop", "orderflow.localhost", cluster_local=False) == [
        *inside,
        "echo.shop.orderflow.localhost",
    ]
