"""`make pipeline`: runs the steps of the Jenkinsfile for real, for a good commit and then for a bad one.

HEAD is the good commit: it goes from a clean clone to a finished rollout in production. The bad commit is on top of
HEAD, and its fault shows only under load: its rollout must be aborted and its build must fail. Production runs the
commit before HEAD at the start, and gets orders during both releases.

These run on this machine: SonarQube, a registry with a login, BuildKit, Prometheus, and for each environment Kafka,
PostgreSQL and a mail server. The cluster is that of KUBECONFIG. Snyk is a stand-in. Tables of what ran against what are
printed, and written to build/pipeline/table.md next to consoles and archives. Exit code 0: both builds ended as
expected; 1: one did not; 2: something that the run needs is missing.
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

from orderflow_sandbox.sandbox import ROOT
from orderflow_sandbox.servers.errors import ServerFailedError
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
from tests.pipeline.builds import Credentials, FinishedBuild, Job, NotEndedError
from tests.pipeline.builds import run as run_harness_build
from tests.pipeline.load_balancer import LoadBalancer
from tests.pipeline.order_traffic import OrderTraffic
from tests.pipeline.origin import BRANCH, Origin
from tests.pipeline.quality_gate import QualityGate
from tests.pipeline.registry import Registry
from tests.pipeline.shop import Deployer, Shop
from tests.pipeline.signing import Signing
from tests.pipeline.site import Environment, write
from tests.pipeline.table import Run, as_markdown, unknown

RESULTS: Final = ROOT / "build/pipeline"
ORDERS_FROM: Final = "Deploy to staging"
"""The stage at which orders start: so the stable revision in production has traffic to compare the release with."""
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
"""Variables that make sets for this command. An agent does not have them."""


@dataclass(frozen=True)
class Setup:
    """Everything that runs during the builds."""

    arguments: argparse.Namespace
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
        """The environment of an agent, with the options of its tests. It has no secret: those are credentials."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        inherited = {name: value for name, value in os.environ.items() if name not in _FROM_MAKE | _ARGUMENTS}
        variables = {
            "PATH": path,
            "ORDERFLOW_REPOSITORY": self.repository,
            "SITE": str(self.site),
            "SIGNING_CONFIG": str(self.signing.signing_config),
        }
        if tests:
            variables["PYTEST_ADDOPTS"] = tests
        return inherited | variables | self.builder.environment()


def log(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def make(folder: Path, environment: Mapping[str, str], *arguments: str) -> None:
    """Raises ClusterError with the end of the output."""
    process = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if process.returncode:
        raise ClusterError(f"make {' '.join(arguments)}:\n{process.stdout[-2000:]}")


@contextmanager
def running_setup(arguments: argparse.Namespace, folder: Path) -> Iterator[Setup]:
    with ExitStack() as stack:
        tools.install(folder / "bin")
        origin = Origin(folder)
        log(f"commit {origin.commit[:12]}, after {origin.before[:12]}; {folder}")
        registry = stack.enter_context(Registry(folder / "registry", arguments.registry_host))
        binaries = {name: str(tools.BUILT / name) for name in tools.BUILT_PROGRAMS}
        builder = stack.enter_context(
            Builder(folder / "builder", registry, binaries, arguments.base, arguments.docker)
        )
        signing = Signing(folder / "signing", tools.BUILT / "cosign", builder.settings)
        log("images that the pipeline does not build: delivery, rollout")
        images = {target: f"dev.local/orderflow-{target}:pipeline" for target in ("delivery", "rollout")}
        for target, image in images.items():
            # Not BASE in the registry: with the base of earlier runs, the builder has these images in its cache.
            command = ("image", f"TARGET={target}", f"IMAGE={image}", f"BASE={arguments.base}")
            make(ROOT, os.environ | builder.environment(), *command)
            subprocess.run([*shlex.split(arguments.load), image], check=True)
        log("the cluster: servers, namespaces, the canary controller")
        options = Options(
            image="",
            delivery_image=images["delivery"],
            host=arguments.host,
            ingress=arguments.ingress or gateway(),
            state=folder / "production",
            namespace=PRODUCTION,
            partitions=_PARTITIONS,
        )
        shops = []
        for namespace in (STAGING, PRODUCTION):
            shop_options = dataclasses.replace(options, namespace=namespace, state=folder / namespace)
            servers = stack.enter_context(
                Servers(shop_options.state / "servers", shop_options.host, shop_options.partitions)
            )
            shops.append(stack.enter_context(Shop(shop_options, servers, registry)))
        staging, production = shops
        prometheus = stack.enter_context(Prometheus(folder / "prometheus", arguments.host, PRODUCTION))
        stack.enter_context(Controller(images["rollout"], PRODUCTION, folder / "rollout"))
        rollouts = Rollouts(production, prometheus.url)
        rollouts.templates()
        environments = [
            Environment("staging", STAGING, staging.servers),
            Environment("production", PRODUCTION, production.servers),
        ]
        site = write(folder / "site", environments, None if arguments.rollouts_as_shipped else prometheus.url)
        log("SonarQube")
        sonar = stack.enter_context(sonarqube())
        credentials = Credentials()
        setup = Setup(
            arguments,
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
        _fill(credentials, setup, stack)
        yield setup


def _fill(credentials: Credentials, setup: Setup, stack: ExitStack) -> None:
    """The ids are those of the Jenkinsfile."""
    credentials.string("snyk-token", f"stand-in-{secrets.token_hex(16)}")
    credentials.login("docker-hub", setup.registry.user, setup.registry.password)
    credentials.file("cosign-key", setup.signing.key)
    credentials.string("cosign-password", setup.signing.password)
    for name, namespace in (("staging", STAGING), ("production", PRODUCTION)):
        deployer = stack.enter_context(Deployer(namespace))
        credentials.file(f"{name}-kubeconfig", deployer.kubeconfig())
    staging = setup.staging
    for service in ("intake", "query"):
        balancer = LoadBalancer(
            staging.options.ingress, lambda name=service: urlsplit(staging.url(name)).netloc
        )
        credentials.string(f"staging-{service}", stack.enter_context(balancer).url)
    for name, key in staging.keys.items():
        credentials.string(f"staging-{name.removesuffix('Key')}-key", key)


def deploy_stable(setup: Setup) -> None:
    """Deploys the commit before HEAD to production, as the pipeline does it."""
    log(f"production gets {setup.origin.before[:12]}")
    new = setup.origin.clone("deploying", setup.origin.commit)
    old = setup.origin.clone("before", setup.origin.before)
    image = f"{setup.repository}:{setup.origin.before}"
    # The targets of HEAD: the old ones may not know all variables.
    make(old, setup.agent(), "--file", str(new / "Makefile"), "image-push", f"IMAGE={image}")
    (new / "build").mkdir(exist_ok=True)
    shutil.copy(old / "build/image.json", new / "build")
    kubeconfig = setup.folder / "deploying.kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_bytes(Deployer(PRODUCTION).kubeconfig())
    environment = setup.agent() | {"KUBECONFIG": str(kubeconfig)}
    make(new, environment, "deploy-production", f"IMAGE={setup.repository}")


def run_build(
    setup: Setup, name: str, commit: str, number: int, tests: str
) -> tuple[FinishedBuild, list[str], list[str]]:
    """Runs one build, with orders from ORDERS_FROM on. Returns its end, observations about the orders, and faults."""
    job = Job(
        jenkinsfile=setup.origin.clone(f"{name}-jenkinsfile", commit) / "Jenkinsfile",
        repository=setup.origin.path,
        branch=BRANCH,
        commit=commit,
        folder=setup.folder / name,
        environment=setup.agent(tests),
        credentials=setup.credentials,
        sonarqube={"sonarqube": {"url": setup.sonar.url, "token": setup.sonar.token}},
        number=number,
    )
    observations: list[str] = []
    faults: list[str] = []
    with ExitStack() as stack:
        traffic: list[OrderTraffic] = []

        def on_stage(stage: str) -> None:
            log(f"{name}: {stage}")
            if stage == ORDERS_FROM:
                orders = OrderTraffic(setup.production, setup.arguments.rate, number)
                traffic.append(stack.enter_context(orders))

        try:
            build = run_harness_build(job, on_stage)
        finally:
            _save_results(job)
        log(f"{name}: {build.result} {build.description or build.reason}")
        if traffic:
            account = traffic[0].account()
            observations.append(
                f"{account.orders} orders came to production meanwhile: {len(account.missing_orders)} lost, "
                f"{len(account.unexpected)} ended otherwise than they should"
            )
            if account.missing_orders:
                faults.append(f"{name}: {len(account.missing_orders)} orders were lost")
            elif name == "good" and account.unexpected:
                examples = f"{len(account.unexpected)} orders ended wrongly: {account.unexpected[:3]}"
                faults.append(f"{name}: {examples}")
    return build, observations, faults


def _save_results(job: Job) -> None:
    folder = RESULTS / job.folder.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(job.folder / "console.log", folder)
    if (job.folder / "archive").is_dir():
        shutil.copytree(job.folder / "archive", folder / "archive")


def image_of(setup: Setup, name: str) -> str:
    """The image that a build pushed, by its digest."""
    digest = pushed_digest(RESULTS / name / "archive/build/image.json")
    return f"{setup.repository}@{digest}"


def serving(setup: Setup) -> dict[str, set[str]]:
    """For each stage with a rollout, the images of the revisions that have traffic."""
    serving_images = {}
    for stage in ROLLED_OUT:
        shares = setup.rollouts.shares(stage)
        revisions = [name for name, share in shares.items() if share]
        images = (
            setup.production.kube.get("revision", name)["spec"]["containers"][0]["image"]
            for name in revisions
        )
        serving_images[stage] = set(images)
    return serving_images


def good(setup: Setup) -> Run:
    tests, gate = setup.arguments.tests, QualityGate(setup.sonar)
    if not tests:
        gate.judge_all_code()
    build, observations, faults = run_build(setup, "good", setup.origin.commit, 1, tests)
    if build.result == "SUCCESS":
        image = image_of(setup, "good")
        setup.builder.login()
        observations.append(f"`{image}`: {setup.signing.verify(image)}")
        setup.builder.save_attestations(image, RESULTS / "good/attestations")
        observations.append(
            "its provenance and its SBOM, attested when it was pushed, are read back from the registry"
        )
        if serving(setup) != {stage: {image} for stage in ROLLED_OUT}:
            faults.append(f"good: production serves {serving(setup)}")
        observations.append(f"{', '.join(ROLLED_OUT)} of production serve that image")
    else:
        faults.append(f"good: {build.result}: {build.description or build.reason}")
    if gate.reached(build):
        (RESULTS / "good/issues.txt").write_text("".join(f"{issue}\n" for issue in gate.issues()))
        observations.append("a server's first analysis: the gate judged nothing" if tests else gate.result())
    title = "A good commit: from a clean clone to a finished rollout"
    return Run("good", title, setup.origin.commit, build, tests, tuple(observations), tuple(faults))


def bad(setup: Setup) -> Run:
    before = serving(setup)
    commit = setup.origin.add_bad_commit()
    tests, gate = setup.arguments.bad_tests or setup.arguments.tests, QualityGate(setup.sonar)
    gate.judge_changes()
    build, observations, faults = run_build(setup, "bad", commit, 2, tests)
    if gate.reached(build):
        observations.append(f"{gate.result()}, of what the commit changes")
    if build.result != "FAILURE" or "validate: Degraded" not in build.description:
        faults.append(f"bad: {build.result}: {build.description or build.reason}")
    after = serving(setup)
    if after["validate"] != before["validate"]:
        faults.append(f"bad: validate serves {after['validate']}, not {before['validate']}")
    observations.append("validate of production serves the good commit's image again, and nothing else")
    title = "A bad commit: to a rollback and a failed build"
    return Run("bad", title, commit, build, tests, tuple(observations), tuple(faults))


def run_builds(arguments: argparse.Namespace, folder: Path, runs: list[Run]) -> None:
    """Adds each build to `ended` when it ends, and writes the table again."""

    def add(run: Run) -> None:
        runs.append(run)
        namespaces = {"staging": STAGING, "production": PRODUCTION}
        (RESULTS / "table.md").write_text("\n".join(as_markdown(each, namespaces) for each in runs))

    with running_setup(arguments, folder) as setup:
        deploy_stable(setup)
        add(good(setup))
        if runs[0].build.result == "SUCCESS" and "bad" in arguments.only:
            add(bad(setup))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make pipeline", description=__doc__)
    parser.add_argument(
        "--host", required=True, help="an address of this machine that the cluster's pods reach"
    )
    parser.add_argument(
        "--load", required=True, help="the command that takes an image to the cluster's nodes"
    )
    parser.add_argument(
        "--ingress", default="", help="host:port of the cluster's public gateway (default: that of Kourier)"
    )
    parser.add_argument(
        "--docker", default="docker", help="a docker client whose `build` is that of the engine"
    )
    parser.add_argument(
        "--base", required=True, help="the base of the image; pushed to the registry where the engine has it"
    )
    parser.add_argument(
        "--registry-host",
        default="127.0.0.1",
        help="the registry's address; docker and the nodes must accept it without TLS",
    )
    parser.add_argument("--tests", default="", help="PYTEST_ADDOPTS of the good build (default: all tests)")
    parser.add_argument(
        "--bad-tests", default="", help="PYTEST_ADDOPTS of the bad build (default: as in the good build)"
    )
    parser.add_argument("--rate", type=float, default=5.0, help="orders a second during the builds")
    parser.add_argument(
        "--rollouts-as-shipped", action="store_true", help="keep the minutes and weights of argo/rollouts"
    )
    parser.add_argument("--only", nargs="*", default=["good", "bad"], choices=["good", "bad"])
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    missing = tools.missing(arguments.docker)
    missing += [f"{name}: must be set" for name in ("host", "load") if not getattr(arguments, name)]
    if not os.environ.get("KUBECONFIG"):
        missing.append("KUBECONFIG: a cluster with Knative Serving, Kourier and Argo Rollouts' analyses")
    for each in missing:
        sys.stderr.write(f"missing: {each}\n")
    if missing:
        return 2
    # For root the databases run as another user, who must be able to enter the folder.
    folder = Path(tempfile.mkdtemp(prefix="orderflow-pipeline-"))
    folder.chmod(0o755)
    shutil.rmtree(RESULTS, ignore_errors=True)
    runs: list[Run] = []
    failure = ""
    try:
        run_builds(arguments, folder, runs)
    except FAILURES as error:
        failure = str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if runs:
        sys.stdout.write((RESULTS / "table.md").read_text())
    faults = [failure] if failure else []
    faults += [fault for each in runs for fault in each.faults]
    faults += [
        f"{name}: the table does not have this stage" for each in runs for name in unknown(each.build.stages)
    ]
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
