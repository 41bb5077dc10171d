"""`make e2e-canary`: good and bad releases of every stage on the cluster in KUBECONFIG, while orders flow.

Exit code 0: the good release became stable step by step, the controller rolled back each bad release, and no order was
lost.
"""

import argparse
import asyncio
import dataclasses
import sys
import tempfile
from collections.abc import Awaitable, Iterator
from pathlib import Path

import yaml

from orderflow_sandbox.sender import NotAcceptedError
from tests.chaos.errors import NotSettledError
from tests.cluster.canary.deliveries import DeliveryReports
from tests.cluster.canary.prometheus import Prometheus
from tests.cluster.canary.releases import BAD, GOOD, GOOD_TRACK, config_map
from tests.cluster.canary.rollouts import STAGES, Controller, Rollouts
from tests.cluster.canary.table import as_markdown, as_row, faults
from tests.cluster.canary.trials import Outcome, Trials
from tests.cluster.kube import ClusterError
from tests.cluster.servers import Servers
from tests.cluster.stack import Options, Stack, variable_path

_TRIALS = ("good", "killed", *(release.name for release in BAD), GOOD_TRACK.name, "plain")


# A pod's resource requests stay reserved while the pod is idle. Two revisions of two stages must fit on a small node.
_SMALL = {
    "target": {"group": "serving.knative.dev", "kind": "Service"},
    "patch": """\
- op: replace
  path: /spec/template/spec/containers/0/resources/requests
  value: {cpu: 5m, memory: 64Mi}
- op: add
  path: /spec/template/metadata/annotations/queue.sidecar.serving.knative.dev~1cpu-resource-request
  value: 5m
""",
}


async def run(arguments: argparse.Namespace, state: Path) -> tuple[list[Outcome], list[str]]:
    options = dataclasses.replace(
        Options.from_environment(state),
        namespace=arguments.namespace,
        partitions=8,
        patches=(_SMALL,),
        console_image=arguments.console_image,
    )
    outcomes: list[Outcome] = []
    errors: list[str] = []
    with (
        Prometheus(options.state / "prometheus", options.host, options.namespace) as prometheus,
        Servers(options.state / "servers", options.host, options.partitions) as servers,
        Stack(_judged_by(options, prometheus), servers) as stack,
        DeliveryReports(options.host) as delivery_reports,
        Controller(arguments.rollout_image, options.namespace, options.state) as controller,
    ):
        stack.kube.kubectl(
            "patch", "cronjob", "audit", "--patch", '{"spec":{"suspend":true}}', "--type=merge"
        )
        stack.kube.apply(config_map())
        rollouts = Rollouts(stack, prometheus.url)
        rollouts.install()
        templates = {stage: stack.kube.get("ksvc", stage)["spec"]["template"] for stage in STAGES}
        trials = Trials(stack, rollouts, controller, delivery_reports, arguments.rate, templates)

        async def record(trial: Awaitable[Outcome]) -> None:
            """Records the trial's outcome, or the errors of a trial that failed. The other trials run in both cases."""
            try:
                outcomes.append(await trial)
                sys.stderr.write(as_row(outcomes[-1]) + "\n")
            except* (ClusterError, NotSettledError, NotAcceptedError) as group:
                errors.extend(str(error) for error in _leaves(group))
                sys.stderr.write(f"not tried to the end: {errors[-1]}\n")

        after_bad = False
        if "good" in arguments.only:
            await record(trials.good(GOOD))
        for release in BAD:
            if release.name in arguments.only:
                await record(trials.bad(release))
            if release.service == "track" and GOOD_TRACK.name in arguments.only and not after_bad:
                after_bad = True
                await record(trials.good(GOOD_TRACK))
        if "killed" in arguments.only:
            await record(trials.good(GOOD, kill=True))
        if "plain" in arguments.only:
            for release in BAD:
                await record(trials.plain(release, arguments.rollout_duration))
    return outcomes, errors


def _judged_by(options: Options, prometheus: Prometheus) -> Options:
    """The options with what query needs to judge every stage of the namespace."""
    values = {
        "SHADOW_URL": f"http://{{revision}}.{options.namespace}.svc.cluster.local",
        "PROMETHEUS_URL": prometheus.url,
    }
    operations = [
        {"op": "replace", "path": variable_path("query", name), "value": value}
        for name, value in values.items()
    ]
    query = {
        "target": {"group": "serving.knative.dev", "kind": "Service", "name": "query"},
        "patch": yaml.safe_dump(operations),
    }
    return dataclasses.replace(options, patches=(*options.patches, query))


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def main() -> int:
    parser = argparse.ArgumentParser(prog="make e2e-canary", description=__doc__)
    parser.add_argument("--rollout-image", required=True, help="the controller's, where the nodes find it")
    parser.add_argument("--console-image", required=True, help="query's, which shows releases")
    parser.add_argument("--namespace", default="canary-orders")
    parser.add_argument("--rate", type=float, default=5.0, help="orders a second")
    parser.add_argument("--rollout-duration", type=int, default=60, help="Knative's, in seconds")
    parser.add_argument("--only", nargs="*", default=_TRIALS, choices=_TRIALS, metavar="TRIAL")
    arguments = parser.parse_args()
    # Where root runs this, the database belongs to another user, who cannot enter root's folders.
    with tempfile.TemporaryDirectory(prefix="orderflow-canary-") as folder:
        outcomes, errors = asyncio.run(run(arguments, Path(folder)))
    sys.stdout.write(as_markdown(outcomes))
    sentences = [*errors, *faults(outcomes)]
    for sentence in sentences:
        sys.stderr.write(f"{sentence}\n")
    return 1 if sentences else 0


if __name__ == "__main__":
    sys.exit(main())
