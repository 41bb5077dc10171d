"""Releases on the console's pages and in its API: query with a real PostgreSQL and an API server in memory."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
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
from support.releases import Release, age, minutes_ago, sell
from support.rollout_shop import Shop
from support.stage import ROOT
from werkzeug.test import Client

from knrollout.api import names
from orderflow.adapters.http import api_keys
from orderflow.adapters.postgres.schema import migrate
from orderflow.contracts.openapi import describe

BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


def query(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Client:
    known = {"KAFKA_BOOTSTRAP": NO_KAFKA, "LOCAL_RUN": "true", "ROLLOUTS": "on"}
    for name, value in (known | environment).items():
        monkeypatch.setenv(name, value)
    served = functions_framework.create_app("query", str(ROOT / "functions/query.py"), "http")
    client: Client = served.test_client()
    return client


class Console:
    """The shop's release, and a client of the console that shows it."""

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
        form = question or self.page(f"/rollouts/track/{verb}")
        confirmed = form.partition('name="confirmed" value="')[2].partition('"')[0]
        answer = self.client.post(f"/rollouts/track/{verb}", data={"confirmed": confirmed}, headers=BROWSER)
        assert answer.status_code == status, answer.text
        self.shop.run_to_rest()


@pytest.fixture
def console(fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    migrate(fresh_database)
    shop = Shop()
    with serve_cluster(shop.cluster, tmp_path) as kubeconfig:
        yield Console(shop, fresh_database, kubeconfig, monkeypatch)


def test_a_release_is_shown_with_its_steps_its_revisions_and_what_judges_them(console: Console) -> None:
    canary = console.shop.release_to_analysis()
    page = console.page("/rollouts/track")
    for words in (canary, "10 %", "Analysis orders", "track-uid-roll-1-step2-1", "not started", "90 %"):
        assert words in page


def test_the_orders_that_the_new_revision_handled_are_shown_with_it(
    console: Console, fresh_database: str
) -> None:
    happen(fresh_database, placed("met-1"))
    assert "met-1" not in console.page("/rollouts/track"), "nothing is on its way"
    canary = console.shop.release_to_analysis()
    assert "None yet" in console.page("/rollouts/track")
    with psycopg.connect(fresh_database) as connection:
        connection.execute("UPDATE ledger SET revision = %s", [canary])
    page = console.page("/rollouts/track")
    assert 'href="/orders/met-1"' in page
    assert "too few" in page


def test_the_page_of_a_release_says_what_its_judge_says(console: Console, fresh_database: str) -> None:
    canary = console.shop.release_to_analysis()
    status = console.shop.rollout["status"]
    stable, weight = (status[name] for name in ("stableRevision", "weight"))
    status |= {"canaryStartedAt": minutes_ago(10), "weightChangedAt": minutes_ago(10)}
    release = Release(canary, status=lambda event: replace(event, data=b"{}"))
    sell(fresh_database, range(80), release, Release(stable))
    age(fresh_database, 5)
    path = f"/api/releases/track?canary={canary}&stable={stable}&weight={weight}"
    judged = json.loads(console.page(path))
    assert judged["verdict"] == "worse"
    page = console.page("/rollouts/track")
    assert "Parked by notify 20 of 20 at the canary against 0 of 60" in page
    whole = json.loads(console.page("/api/rollouts/track"))
    for name in ("verdict", "harm", "outcomes", "invariants"):
        assert whole[name] == judged[name]


def test_a_list_begins_with_what_needs_attention(console: Console) -> None:
    other = json.loads(json.dumps(console.shop.rollout))
    other["metadata"]["name"], other["spec"]["workloadRef"]["name"] = "another", "intake"
    console.shop.cluster.add("rollout", other)
    console.shop.release_to_analysis()
    console.shop.end_current_run("Inconclusive")
    page = console.page("/rollouts")
    assert page.index("/rollouts/track") < page.index("/rollouts/another")
    assert "needs attention" in page


def test_the_start_page_counts_releases_that_wait_for_an_operator(console: Console) -> None:
    console.shop.release_to_analysis()
    assert "Paused or aborted" not in console.page("/")
    console.shop.end_current_run("Failed")
    query_anew = Console(
        console.shop,
        console.environment["DATABASE_URL"],
        Path(console.environment["KUBECONFIG"]),
        console.monkeypatch,
    )
    assert "Paused or aborted" in query_anew.page("/")


def test_an_abort_is_confirmed_once_and_recorded_under_the_operators_name(console: Console) -> None:
    canary = console.shop.release_to_analysis()
    question = console.page("/rollouts/track/abort")
    assert console.shop.cluster.shares()[canary] == 10, "a question changes nothing"
    console.confirm("abort", question)
    assert console.shop.cluster.shares() == {console.shop.stable: 100}
    annotations = console.shop.cluster.objects["rollout", "track"]["metadata"]["annotations"]
    assert annotations[names.ASKED_BY_ANNOTATION] == "local: abort"


def test_what_was_confirmed_for_one_step_does_not_pass_the_next(console: Console) -> None:
    console.shop.release()
    question = console.page("/rollouts/track/promote")
    console.confirm("promote", question)
    assert console.shop.cluster.status()["currentStepIndex"] == 2
    console.confirm("promote", question, status=409)
    assert console.shop.cluster.status()["currentStepIndex"] == 2


@pytest.mark.parametrize("verb", ["promote-full", "pause"])
def test_the_other_verbs_do_what_the_command_does(console: Console, verb: str) -> None:
    canary = console.shop.release()
    console.confirm(verb)
    if verb == "pause":
        assert console.shop.wait(300)["reason"] == "UserPaused"
    else:
        assert console.shop.cluster.shares() == {canary: 100}


def test_an_aborted_release_is_tried_again(console: Console) -> None:
    canary = console.shop.release()
    console.shop.abort()
    console.confirm("retry")
    assert console.shop.cluster.shares()[canary] == 10


def test_a_command_that_the_release_does_not_allow_is_refused_in_words(console: Console) -> None:
    assert "no longer where it was" in console.page("/rollouts/track/abort", 409)


def test_another_site_cannot_command_a_release(console: Console) -> None:
    canary = console.shop.release()
    data = {"confirmed": "x"}
    answer = console.client.post("/rollouts/track/abort", data=data, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    console.shop.run_to_rest()
    assert console.shop.cluster.shares()[canary] == 10


def test_a_key_that_may_only_read_sees_the_release_and_cannot_command_it(
    console: Console, tmp_path: Path
) -> None:
    key, entry = api_keys.new_key("desk", ["query"])
    (tmp_path / "keys.toml").write_text(api_keys.toml(entry))
    console.shop.release()
    client = query(console.monkeypatch, **console.environment, API_KEYS_FILE=str(tmp_path / "keys.toml"))
    response = client.get("/rollouts/track", auth=("desk", key), headers=BROWSER)
    assert response.status_code == 200
    assert "may only read" in response.text
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
        "from functions.query import app\n"
        "assert app is not None\n"
    )
    environment = {"DATABASE_URL": fresh_database, "KAFKA_BOOTSTRAP": NO_KAFKA, "LOCAL_RUN": "true"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | environment, cwd=ROOT, check=True)


def test_a_setting_without_a_cluster_ends_the_start_with_its_name(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        query(monkeypatch, DATABASE_URL=fresh_database, KUBECONFIG="/nowhere")
    assert "ROLLOUTS" in capfd.readouterr().err


def test_a_cluster_that_does_not_answer_is_reported_and_the_orders_are_still_shown(
    fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(fresh_database)
    with serve_cluster(Shop().cluster, tmp_path) as kubeconfig:
        pass
    gone = Console(Shop(), fresh_database, kubeconfig, monkeypatch)
    assert "does not answer" in gone.page("/rollouts", 503)
    assert "The cluster does not answer" in gone.page("/")
    gone.page("/orders")


def test_an_unknown_release_is_a_404(console: Console) -> None:
    assert "There is no rollout trakc" in console.page("/rollouts/trakc", 404)


def test_the_role_allows_what_the_console_asks_and_nothing_else(
    fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(fresh_database)
    shop = Shop()
    api = KubeApi(shop.cluster)
    with serve(api, tmp_path) as kubeconfig:
        console = Console(shop, fresh_database, kubeconfig, monkeypatch)
        shop.release()
        for path in ("/", "/rollouts", "/rollouts/track"):
            console.page(path)
        console.confirm("abort")
    (role, *_) = yaml.safe_load_all((ROOT / "argo/console/rights.yaml").read_text())
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == api.requests


def test_the_api_has_the_same(console: Console) -> None:
    canary = console.shop.release_to_analysis()
    (brief,) = json.loads(console.page("/api/rollouts"))["rollouts"]
    assert (brief["name"], brief["step"], brief["steps"]) == ("track", 3, 5)
    whole = json.loads(console.page(brief["href"]))
    assert whole["status"]["canaryRevision"] == canary
    assert [outcome["outcome"] for outcome in whole["outcomes"]] == [
        "refused",
        "parked",
        "parked_by_notify",
        "failed",
    ]
    assert whole["sentence"].startswith("too few")
    assert whole["revisions"][0]["runs"][0]["run"]["name"] == "track-uid-roll-1-step2-1"
    assert "abort" in whole["asks"]
    described = describe("query", strict=True)
    for operation, path in (("listRollouts", "/api/rollouts"), ("readRollout", brief["href"])):
        answer = console.client.get(path)
        must_be_as_described(described, operation, answer.status_code, answer.headers, answer.json)


def test_a_revision_that_still_serves_is_not_repaired(console: Console) -> None:
    canary = console.shop.release_to_analysis()
    for revision, how in ((console.shop.stable, "kn rollout undo track"), (canary, "kn rollout abort track")):
        refused = console.client.post("/api/repairs", json={"revision": revision})
        assert (refused.status_code, how in refused.json["title"]) == (409, True)
        plan = console.client.post("/api/repairs", json={"revision": revision, "dry_run": True})
        assert (plan.status_code, how in plan.json["warnings"][0]) == (200, True)
    console.confirm("abort")
    assert console.client.post("/api/repairs", json={"revision": canary}).json["warnings"] == []
