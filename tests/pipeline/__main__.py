"""`make pipeline`: the Jenkinsfile, executed, its shell steps really run, on a good commit and then on a bad one.

HEAD goes from a clean clone to a finished rollout in production; a commit on top of it, whose fault only shows under
load, has to be taken back and fail its build. Production runs the commit before HEAD at the start, and is sold from
while it is released. Started for it, on this machine: SonarQube, a registry with a login, BuildKit, Prometheus, and
for each environment Kafka, PostgreSQL and a mail server; the cluster is the one in KUBECONFIG. Snyk is a stand-in.
What was run against what is printed as tables, and is in build/pipeline/table.md; consoles and archives lie beside it.
Exit code 0: both builds ended as they should; 1: one did not; 2: something that a run needs is missing.
"""

import argparse
import dataclasses
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from orderflow.sandbox.sandbox import ROOT
from orderflow.sandbox.servers.errors import ServerFailedError
from pipeline.commands import NotReadyError
from pipeline.deploy import ROLLED_OUT, pushed_digest
from pipeline.sonar import NoVerdictError
from pipeline.sonarqube import SonarQube, sonarqube
from tests.chaos.errors import NotSettledError
from tests.cluster.canary.prometheus import Prometheus
from tests.cluster.canary.rollouts import Controller, Rollouts
from tests.cluster.kube import ClusterError
from tests.cluster.servers import Servers
from tests.cluster.stack import Options, gateway
from tests.pipeline import tools
from tests.pipeline.builder import Builder
from tests.pipeline.builds import Credentials, Finished, Job, NotEndedError
from tests.pipeline.builds import run as build
from tests.pipeline.front import Front
from tests.pipeline.judging import Judge
from tests.pipeline.origin import BRANCH, Origin
from tests.pipeline.registry import Registry
from tests.pipeline.selling import Selling
from tests.pipeline.shop import Deployer, Shop
from tests.pipeline.signing import Signing
from tests.pipeline.site import Place, write
from tests.pipeline.table import Run, as_markdown, unknown

KEPT: Final = ROOT / "build/pipeline"
SELLING_FROM: Final = "Deploy to staging"
"""So that there is something to compare a release with, once it comes to production."""
STAGING: Final = "orderflow-staging"
PRODUCTION: Final = "orderflow-production"
FAILURES: Final = (
    ClusterError,
    NotEndedError,
    NotReadyError,
    NotSettledError,
    NoVerdictError,
    ServerFailedError,
)
_PARTITIONS: Final = 8
_FROM_MAKE: Final = frozenset(
    {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "VIRTUAL_ENV", "KUBECONFIG"}
)
_ARGUMENTS: Final = frozenset({"HOST", "LOAD", "INGRESS", "BASE", "TESTS", "PIPELINE", "DOCKER"})
"""What this command has in its environment, from make, and an agent has not."""


@dataclass(frozen=True)
class World:
    """All that stands while the builds run."""

    given: argparse.Namespace
    folder: Path
    origin: Origin
    sonar: SonarQube
    registry: Registry
    builder: Builder
    signing: Signing
    staging: Shop
    production: Shop
    rollouts: Rollouts
    site: Path
    credentials: Credentials

    @property
    def repository(self) -> str:
        return f"{self.registry.address}/orderflow/orderflow"

    def agent(self, tests: str = "") -> dict[str, str]:
        """An agent's environment, with what of the tests it is to run. Whatever a key opens is in no variable of it."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        found = {name: value for name, value in os.environ.items() if name not in _FROM_MAKE | _ARGUMENTS}
        told = {
            "PATH": path,
            "ORDERFLOW_REPOSITORY": self.repository,
            "SITE": str(self.site),
            "SIGNING_CONFIG": str(self.signing.signing_config),
        }
        if tests:
            told["PYTEST_ADDOPTS"] = tests
        return found | told | self.builder.environment()


def say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def make(folder: Path, environment: Mapping[str, str], *arguments: str) -> None:
    """Raises ClusterError with the end of what it says."""
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ClusterError(f"make {' '.join(arguments)}:\n{done.stdout[-2000:]}")


@contextmanager
def world(given: argparse.Namespace, folder: Path) -> Iterator[World]:
    with ExitStack() as stack:
        tools.laid_out(folder / "bin")
        origin = Origin(folder)
        say(f"commit {origin.commit[:12]}, after {origin.before[:12]}; {folder}")
        registry = stack.enter_context(Registry(folder / "registry", given.registry_host))
        built = {name: str(tools.BUILT / name) for name in tools.GO}
        builder = stack.enter_context(Builder(folder / "builder", registry, built, given.base, given.docker))
        signing = Signing(folder / "signing", tools.BUILT / "cosign", builder.settings)
        say("the images beside the pipeline: delivery, rollout")
        images = {target: f"dev.local/orderflow-{target}:pipeline" for target in ("delivery", "rollout")}
        for target, image in images.items():
            # Of the base as it is given: what an earlier run has built is there.
            command = ("image", f"TARGET={target}", f"IMAGE={image}", f"BASE={given.base}")
            make(ROOT, os.environ | builder.environment(), *command)
            subprocess.run([*shlex.split(given.load), image], check=True)
        say("the cluster: servers, namespaces, the canary controller")
        options = Options(
            image="",
            delivery_image=images["delivery"],
            host=given.host,
            ingress=given.ingress or gateway(),
            state=folder / "production",
            namespace=PRODUCTION,
            partitions=_PARTITIONS,
        )
        shops = []
        for namespace in (STAGING, PRODUCTION):
            own = dataclasses.replace(options, namespace=namespace, state=folder / namespace)
            servers = stack.enter_context(Servers(own.state / "servers", own.host, own.partitions))
            shops.append(stack.enter_context(Shop(own, servers, registry)))
        staging, production = shops
        prometheus = stack.enter_context(Prometheus(folder / "prometheus", given.host, PRODUCTION))
        stack.enter_context(Controller(images["rollout"], PRODUCTION, folder / "rollout"))
        rollouts = Rollouts(production, prometheus.url)
        rollouts.templates()
        places = [
            Place("staging", STAGING, staging.servers),
            Place("production", PRODUCTION, production.servers),
        ]
        site = write(folder / "site", places, None if given.rollouts_as_shipped else prometheus.url)
        say("SonarQube")
        sonar = stack.enter_context(sonarqube())
        credentials = Credentials()
        there = World(
            given,
            folder,
            origin,
            sonar,
            registry,
            builder,
            signing,
            staging,
            production,
            rollouts,
            site,
            credentials,
        )
        _fill(credentials, there, stack)
        yield there


def _fill(credentials: Credentials, there: World, stack: ExitStack) -> None:
    """The ids are the Jenkinsfile's."""
    credentials.string("snyk-token", f"stand-in-{secrets.token_hex(16)}")
    credentials.login("docker-hub", there.registry.user, there.registry.password)
    credentials.file("cosign-key", there.signing.key)
    credentials.string("cosign-password", there.signing.password)
    for name, namespace in (("staging", STAGING), ("production", PRODUCTION)):
        deployer = stack.enter_context(Deployer(namespace))
        credentials.file(f"{name}-kubeconfig", deployer.kubeconfig())
    staging = there.staging
    for service in ("intake", "query"):
        front = Front(staging.options.ingress, lambda name=service: urlsplit(staging.url(name)).netloc)
        credentials.string(f"staging-{service}", stack.enter_context(front).url)
    for name, key in staging.keys.items():
        credentials.string(f"staging-{name.removesuffix('Key')}-key", key)


def stable(there: World) -> None:
    """Production as it is before: the commit before HEAD, deployed as the pipeline does it."""
    say(f"production gets {there.origin.before[:12]}")
    now = there.origin.clone("deploying", there.origin.commit)
    old = there.origin.clone("before", there.origin.before)
    image = f"{there.repository}:{there.origin.before}"
    # The targets are HEAD's: what they take may be new.
    make(old, there.agent(), "--file", str(now / "Makefile"), "image-push", f"IMAGE={image}")
    (now / "build").mkdir(exist_ok=True)
    shutil.copy(old / "build/image.json", now / "build")
    kubeconfig = there.folder / "deploying.kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_bytes(Deployer(PRODUCTION).kubeconfig())
    environment = there.agent() | {"KUBECONFIG": str(kubeconfig)}
    make(now, environment, "deploy-production", f"IMAGE={there.repository}")


def one(
    there: World, name: str, commit: str, number: int, tests: str
) -> tuple[Finished, list[str], list[str]]:
    """One build, with orders from a stage on; then, as sentences, what became of them, and the faults of that."""
    job = Job(
        jenkinsfile=there.origin.clone(f"{name}-jenkinsfile", commit) / "Jenkinsfile",
        repository=there.origin.path,
        branch=BRANCH,
        commit=commit,
        folder=there.folder / name,
        environment=there.agent(tests),
        credentials=there.credentials,
        sonarqube={"sonarqube": {"url": there.sonar.url, "token": there.sonar.token}},
        number=number,
    )
    found: list[str] = []
    faults: list[str] = []
    with ExitStack() as stack:
        sold: list[Selling] = []

        def entered(stage: str) -> None:
            say(f"{name}: {stage}")
            if stage == SELLING_FROM:
                selling = Selling(there.production, there.given.rate, number)
                sold.append(stack.enter_context(selling))

        try:
            finished = build(job, entered)
        finally:
            _kept(job)
        say(f"{name}: {finished.result} {finished.description or finished.why}")
        if sold:
            account = sold[0].account()
            found.append(
                f"{account.orders} orders came to production meanwhile: {len(account.missing_orders)} lost, "
                f"{len(account.unexpected)} ended otherwise than they should"
            )
            if account.missing_orders:
                faults.append(f"{name}: {len(account.missing_orders)} orders were lost")
            elif name == "good" and account.unexpected:
                wrong = f"{len(account.unexpected)} orders ended wrongly: {account.unexpected[:3]}"
                faults.append(f"{name}: {wrong}")
    return finished, found, faults


def _kept(job: Job) -> None:
    there = KEPT / job.folder.name
    shutil.rmtree(there, ignore_errors=True)
    there.mkdir(parents=True)
    shutil.copy(job.folder / "console.log", there)
    if (job.folder / "archive").is_dir():
        shutil.copytree(job.folder / "archive", there / "archive")


def image_of(there: World, name: str) -> str:
    """What the build pushed, by its digest."""
    digest = pushed_digest(KEPT / name / "archive/build/image.json")
    return f"{there.repository}@{digest}"


def serving(there: World) -> dict[str, set[str]]:
    """Per stage that has a rollout, the images of the revisions that have traffic."""
    found = {}
    for stage in ROLLED_OUT:
        shares = there.rollouts.shares(stage)
        revisions = [name for name, share in shares.items() if share]
        images = (
            there.production.kube.get("revision", name)["spec"]["containers"][0]["image"]
            for name in revisions
        )
        found[stage] = set(images)
    return found


def good(there: World) -> Run:
    tests, judge = there.given.tests, Judge(there.sonar)
    if not tests:
        judge.everything()
    finished, found, faults = one(there, "good", there.origin.commit, 1, tests)
    if finished.result == "SUCCESS":
        image = image_of(there, "good")
        there.builder.login()
        found.append(f"`{image}`: {there.signing.checked(image)}")
        there.builder.attested(image, KEPT / "good/attestations")
        found.append(
            "its provenance and its SBOM, attested when it was pushed, are read back from the registry"
        )
        if serving(there) != {stage: {image} for stage in ROLLED_OUT}:
            faults.append(f"good: production serves {serving(there)}")
        found.append(f"{', '.join(ROLLED_OUT)} of production serve that image")
    else:
        faults.append(f"good: {finished.result}: {finished.description or finished.why}")
    if judge.was_asked(finished):
        (KEPT / "good/issues.txt").write_text("".join(f"{issue}\n" for issue in judge.issues()))
        found.append("a server's first analysis: the gate judged nothing" if tests else judge.told())
    what = "A good commit: from a clean clone to a finished rollout"
    return Run("good", what, there.origin.commit, finished, tests, tuple(found), tuple(faults))


def bad(there: World) -> Run:
    before = serving(there)
    commit = there.origin.spoiled()
    tests, judge = there.given.bad_tests or there.given.tests, Judge(there.sonar)
    judge.from_now_on()
    finished, found, faults = one(there, "bad", commit, 2, tests)
    if judge.was_asked(finished):
        found.append(f"{judge.told()}, of what the commit changes")
    if finished.result != "FAILURE" or "validate: Degraded" not in finished.description:
        faults.append(f"bad: {finished.result}: {finished.description or finished.why}")
    after = serving(there)
    if after["validate"] != before["validate"]:
        faults.append(f"bad: validate serves {after['validate']}, not {before['validate']}")
    found.append("validate of production serves the good commit's image again, and nothing else")
    what = "A bad commit: to a rollback and a failed build"
    return Run("bad", what, commit, finished, tests, tuple(found), tuple(faults))


def runs(given: argparse.Namespace, folder: Path, ended: list[Run]) -> None:
    """Each is added as it ends, and the table written anew."""

    def keep(run: Run) -> None:
        ended.append(run)
        places = {"staging": STAGING, "production": PRODUCTION}
        (KEPT / "table.md").write_text("\n".join(as_markdown(each, places) for each in ended))

    with world(given, folder) as there:
        stable(there)
        keep(good(there))
        if ended[0].finished.result == "SUCCESS" and "bad" in given.only:
            keep(bad(there))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make pipeline", description=__doc__)
    parser.add_argument(
        "--host", required=True, help="an address of this machine that the cluster's pods reach"
    )
    parser.add_argument(
        "--load", required=True, help="the command that takes an image to the cluster's nodes"
    )
    parser.add_argument(
        "--ingress", default="", help="host:port of its public gateway, unless that is Kourier's"
    )
    parser.add_argument(
        "--docker", default="docker", help="docker's client, whose `build` is the engine's own"
    )
    parser.add_argument(
        "--base", required=True, help="the image's base; where the engine has it, it is pushed"
    )
    parser.add_argument(
        "--registry-host",
        default="127.0.0.1",
        help="where the registry listens: an address that docker and the nodes take without TLS",
    )
    parser.add_argument(
        "--tests", default="", help="what of the tests is run, as PYTEST_ADDOPTS; all unless given"
    )
    parser.add_argument(
        "--bad-tests", default="", help="the same of the bad commit's build; as the good one's unless given"
    )
    parser.add_argument(
        "--rate", type=float, default=5.0, help="orders a second while production is released"
    )
    parser.add_argument(
        "--rollouts-as-shipped", action="store_true", help="argo/rollouts' own minutes and weights"
    )
    parser.add_argument("--only", nargs="*", default=["good", "bad"], choices=["good", "bad"])
    return parser.parse_args()


def main() -> int:
    given = arguments()
    missing = tools.missing(given.docker)
    missing += [f"{name}: set it, please" for name in ("host", "load") if not getattr(given, name)]
    if not os.environ.get("KUBECONFIG"):
        missing.append("KUBECONFIG: a cluster with Knative Serving, Kourier and Argo Rollouts' analyses")
    for each in missing:
        sys.stderr.write(f"missing: {each}\n")
    if missing:
        return 2
    # Run by root, the databases are another user's.
    folder = Path(tempfile.mkdtemp(prefix="orderflow-pipeline-"))
    folder.chmod(0o755)
    shutil.rmtree(KEPT, ignore_errors=True)
    ended: list[Run] = []
    failed = ""
    try:
        runs(given, folder, ended)
    except FAILURES as error:
        failed = str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if ended:
        sys.stdout.write((KEPT / "table.md").read_text())
    faults = [failed] if failed else []
    faults += [fault for each in ended for fault in each.faults]
    faults += [f"{name}: no stage of the table" for each in ended for name in unknown(each.finished.stages)]
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
