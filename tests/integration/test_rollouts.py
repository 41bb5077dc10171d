"""Releases on the console's pages and in its API: query with a real PostgreSQL and an API server in memory."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import functions_framework
import psycopg
import pytest
import yaml
from support.console import NO_KAFKA
from support.described import must_be_as_described
from support.events import placed
from support.history import happen
from support.kubeapi import KubeApi, serve, serve_cluster
from support.rollout_shop import Shop
from support.stage import ROOT
from werkzeug.test import Client

from knrollout.api import names
from orderflow import door
from orderflow.adapters.postgres import migrate
from orderflow.contracts.openapi import describe

BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


def query(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Client:
    known = {"KAFKA_BOOTSTRAP": NO_KAFKA, "LOCAL_RUN": "true", "ROLLOUTS": "on"}
    for name, value in (known | environment).items():
        monkeypatch.setenv(name, value)
    served = functions_framework.create_app("query", str(ROOT / "functions/query.py"), "http")
    client: Client = served.test_client()
    return client


class Desk:
    """The shop's release, the orders, and whoever looks at both."""

    def __init__(self, shop: Shop, database: str, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shop = shop
        self.environment = {"DATABASE_URL": database, "KUBECONFIG": str(kubeconfig)}
        self.monkeypatch = monkeypatch
        self.client = query(monkeypatch, **self.environment)

    def page(self, path: str, status: int = 200) -> str:
        answer = self.client.get(path, headers=BROWSER)
        assert answer.status_code == status, answer.text
        return str(answer.text)

    def confirm(self, verb: str, question: str | None = None, status: int = 303) -> None:
        """Sends what the question's form would."""
        asked = question or self.page(f"/rollouts/track/{verb}")
        confirmed = asked.partition('name="confirmed" value="')[2].partition('"')[0]
        answer = self.client.post(f"/rollouts/track/{verb}", data={"confirmed": confirmed}, headers=BROWSER)
        assert answer.status_code == status, answer.text
        self.shop.run_to_rest()


@pytest.fixture
def desk(fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    migrate(fresh_database)
    shop = Shop()
    with serve_cluster(shop.cluster, tmp_path) as kubeconfig:
        yield Desk(shop, fresh_database, kubeconfig, monkeypatch)


def test_a_release_is_shown_with_its_steps_its_revisions_and_what_judges_them(desk: Desk) -> None:
    canary = desk.shop.release_to_analysis()
    told = desk.page("/rollouts/track")
    for words in (canary, "10 %", "Analysis orders", "track-uid-roll-1-step2-1", "not started", "90 %"):
        assert words in told


def test_the_orders_that_met_the_new_revision_stand_beside_it(desk: Desk, fresh_database: str) -> None:
    happen(fresh_database, placed("met-1"))
    assert "met-1" not in desk.page("/rollouts/track"), "nothing is on its way"
    canary = desk.shop.release_to_analysis()
    assert "None in the last day" in desk.page("/rollouts/track")
    with psycopg.connect(fresh_database) as connection:
        connection.execute("UPDATE ledger SET revision = %s", [canary])
    told = desk.page("/rollouts/track")
    assert 'href="/orders/met-1"' in told
    assert "too few" in told


def test_a_list_begins_with_what_needs_a_hand(desk: Desk) -> None:
    other = json.loads(json.dumps(desk.shop.rollout))
    other["metadata"]["name"], other["spec"]["workloadRef"]["name"] = "another", "intake"
    desk.shop.cluster.add("rollout", other)
    desk.shop.release_to_analysis()
    desk.shop.end_current_run("Inconclusive")
    told = desk.page("/rollouts")
    assert told.index("/rollouts/track") < told.index("/rollouts/another")
    assert "needs a hand" in told


def test_the_start_page_counts_what_waits_for_a_person(desk: Desk) -> None:
    desk.shop.release_to_analysis()
    assert "Paused or gone back" not in desk.page("/")
    desk.shop.end_current_run("Failed")
    query_anew = Desk(
        desk.shop, desk.environment["DATABASE_URL"], Path(desk.environment["KUBECONFIG"]), desk.monkeypatch
    )
    assert "Paused or gone back" in query_anew.page("/")


def test_an_abort_is_asked_once_and_then_done_under_the_operators_name(desk: Desk) -> None:
    canary = desk.shop.release_to_analysis()
    question = desk.page("/rollouts/track/abort")
    assert desk.shop.cluster.shares()[canary] == 10, "a question changes nothing"
    desk.confirm("abort", question)
    assert desk.shop.cluster.shares() == {desk.shop.stable: 100}
    kept = desk.shop.cluster.objects["rollout", "track"]["metadata"]["annotations"]
    assert kept[names.ASKED_BY_ANNOTATION] == "local: abort"


def test_what_was_confirmed_for_one_step_does_not_pass_the_next(desk: Desk) -> None:
    desk.shop.release()
    question = desk.page("/rollouts/track/promote")
    desk.confirm("promote", question)
    assert desk.shop.cluster.status()["currentStepIndex"] == 2
    desk.confirm("promote", question, status=409)
    assert desk.shop.cluster.status()["currentStepIndex"] == 2


@pytest.mark.parametrize("verb", ["promote-full", "pause"])
def test_the_other_verbs_do_what_the_command_does(desk: Desk, verb: str) -> None:
    canary = desk.shop.release()
    desk.confirm(verb)
    if verb == "pause":
        assert desk.shop.wait(300)["reason"] == "UserPaused"
    else:
        assert desk.shop.cluster.shares() == {canary: 100}


def test_an_aborted_release_is_tried_again(desk: Desk) -> None:
    canary = desk.shop.release()
    desk.shop.abort()
    desk.confirm("retry")
    assert desk.shop.cluster.shares()[canary] == 10


def test_what_cannot_be_asked_for_now_is_refused_in_words(desk: Desk) -> None:
    assert "no longer where it was" in desk.page("/rollouts/track/abort", 409)


def test_another_site_cannot_steer_a_release(desk: Desk) -> None:
    canary = desk.shop.release()
    data = {"confirmed": "x"}
    answer = desk.client.post("/rollouts/track/abort", data=data, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    desk.shop.run_to_rest()
    assert desk.shop.cluster.shares()[canary] == 10


def test_a_key_that_may_read_sees_the_release_and_steers_nothing(desk: Desk, tmp_path: Path) -> None:
    key, entry = door.new_key("desk", ["query"])
    (tmp_path / "keys.toml").write_text(door.toml(entry))
    desk.shop.release()
    client = query(desk.monkeypatch, **desk.environment, API_KEYS_FILE=str(tmp_path / "keys.toml"))
    shown = client.get("/rollouts/track", auth=("desk", key), headers=BROWSER)
    assert shown.status_code == 200
    assert "may only read" in shown.text
    assert client.get("/rollouts/track/abort", auth=("desk", key), headers=BROWSER).status_code == 403
    sent = client.post("/rollouts/track/abort", auth=("desk", key), headers=BROWSER, data={"confirmed": "x"})
    assert sent.status_code == 403


def test_without_a_cluster_to_ask_there_is_no_such_page_and_nothing_leads_to_it(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(fresh_database)
    client = query(monkeypatch, DATABASE_URL=fresh_database, ROLLOUTS="off", KUBECONFIG="/nowhere")
    assert client.get("/rollouts").status_code == 404
    assert "/rollouts" not in client.get("/", headers=BROWSER).text


def test_without_a_cluster_to_ask_query_needs_nothing_of_knrollout(fresh_database: str) -> None:
    """The stages' image has neither the package nor Kubernetes' client."""
    migrate(fresh_database)
    code = (
        "import sys\n"
        "for name in ('knrollout', 'kubernetes', 'kopf'): sys.modules[name] = None\n"
        "from orderflow import wiring\n"
        "assert wiring.query() is not None\n"
    )
    environment = {"DATABASE_URL": fresh_database, "KAFKA_BOOTSTRAP": NO_KAFKA, "LOCAL_RUN": "true"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | environment, cwd=ROOT, check=True)


def test_a_setting_without_a_cluster_ends_the_start_with_its_name(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        query(monkeypatch, DATABASE_URL=fresh_database, KUBECONFIG="/nowhere")
    assert "ROLLOUTS" in capfd.readouterr().err


def test_a_cluster_that_does_not_answer_is_said_and_the_orders_are_there_all_the_same(
    fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(fresh_database)
    with serve_cluster(Shop().cluster, tmp_path) as kubeconfig:
        pass
    gone = Desk(Shop(), fresh_database, kubeconfig, monkeypatch)
    assert "does not answer" in gone.page("/rollouts", 503)
    assert "The cluster does not say" in gone.page("/")
    gone.page("/orders")


def test_an_unknown_release_is_a_404(desk: Desk) -> None:
    assert "There is no rollout trakc" in desk.page("/rollouts/trakc", 404)


def test_the_role_allows_what_the_console_asks_and_nothing_else(
    fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(fresh_database)
    shop = Shop()
    api = KubeApi(shop.cluster)
    with serve(api, tmp_path) as kubeconfig:
        desk = Desk(shop, fresh_database, kubeconfig, monkeypatch)
        shop.release()
        for path in ("/", "/rollouts", "/rollouts/track"):
            desk.page(path)
        desk.confirm("abort")
    (role, *_) = yaml.safe_load_all((ROOT / "argo/console/rights.yaml").read_text())
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == api.requests


def test_the_api_tells_the_same(desk: Desk) -> None:
    canary = desk.shop.release_to_analysis()
    (brief,) = json.loads(desk.page("/api/rollouts"))["rollouts"]
    assert (brief["name"], brief["step"], brief["steps"]) == ("track", 2, 5)
    whole = json.loads(desk.page(brief["href"]))
    assert whole["status"]["canaryRevision"] == canary
    assert [outcome["outcome"] for outcome in whole["outcomes"]] == ["refused", "parked"]
    assert whole["revisions"][0]["runs"][0]["run"]["name"] == "track-uid-roll-1-step2-1"
    assert "abort" in whole["asks"]
    described = describe("query", strict=True)
    for operation, path in (("listRollouts", "/api/rollouts"), ("readRollout", brief["href"])):
        answer = desk.client.get(path)
        must_be_as_described(described, operation, answer.status_code, answer.headers, answer.json)
