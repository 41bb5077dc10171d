"""The pipeline's own programs, with commands that are only recorded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from pipeline import deploy
from pipeline.commands import NotReadyError, run

DIGEST = "sha256:" + "a" * 64
SERVICE = (
    "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
)
BUILT = SERVICE.format(name="intake", namespace="orderflow").encode()
ROOT = Path(__file__).parents[3]


class RecordingExecutor:
    """Answers a command that contains a part with the part's next exit code, and every other command with 0."""

    def __init__(self, **codes: list[int]) -> None:
        self.commands: list[str] = []
        self._codes = {part.replace("_", " "): list(exit_codes) for part, exit_codes in codes.items()}

    def __call__(self, command: Sequence[str]) -> int:
        text = " ".join(command)
        self.commands.append(text)
        for part, codes in self._codes.items():
            if part in text and codes:
                return codes.pop(0)
        return 0


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the manifests, where the programs are called."""
    for folder in ("knative", "argo", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / "build").mkdir()
    (tmp_path / "build/image.json").write_text(json.dumps({"containerimage.digest": DIGEST}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SNYK_TOKEN", "a token")
    monkeypatch.setenv("KUBECONFIG", "/a/kubeconfig")
    monkeypatch.delenv("SITE", raising=False)
    return tmp_path


SNYK = """#!/bin/sh
echo "$*" >>"$SNYK_STUB/commands"
code=$(sed -n 1p "$SNYK_STUB/$1" 2>/dev/null)
sed -i.old 1d "$SNYK_STUB/$1" 2>/dev/null
exit "${code:-0}"
"""
"""Exits with the codes that a file has for its first word, one after the other; then with 0."""


class Snyk:
    """A `snyk` on the PATH, whose commands are recorded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "snyk").write_text(SNYK)
        (folder / "snyk").chmod(0o755)

    def answer(self, word: str, codes: list[int]) -> None:
        (self._folder / word).write_text("".join(f"{code}\n" for code in codes))

    @property
    def commands(self) -> list[str]:
        return (self._folder / "commands").read_text().splitlines()


@pytest.fixture
def snyk(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Snyk:
    folder = workspace / "stub"
    monkeypatch.setenv("SNYK_STUB", str(folder))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return Snyk(folder)


def scans(*names: str, image: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(ROOT / "pipeline/snyk.sh"), *names],
        env=dict(os.environ) | {"IMAGE": image},
        capture_output=True,
        text=True,
        check=False,
    )


def verdict(workspace: Path) -> str:
    return (workspace / "build/snyk/verdict").read_text().strip()


@pytest.mark.parametrize(
    ("codes", "code", "word", "tries"),
    [
        ([0], 0, "clean", 1),
        ([1], 1, "findings", 1),
        ([2, 2, 2], 2, "failed", 3),
        ([3, 3, 3], 2, "failed", 3),
        ([2, 0], 0, "clean", 2),
        ([2, 1], 1, "findings", 2),
    ],
)
def test_a_scan_that_fails_is_tried_again_and_is_neither_a_finding_nor_a_pass(
    workspace: Path, snyk: Snyk, codes: list[int], code: int, word: str, tries: int
) -> None:
    snyk.answer("code", codes)
    process = scans("code")
    assert process.returncode == code
    assert f"snyk code: {word}\n" in process.stdout
    assert verdict(workspace) == word
    assert len(snyk.commands) == tries


def test_every_scan_is_made_and_a_finding_weighs_more_than_a_failure(workspace: Path, snyk: Snyk) -> None:
    snyk.answer("code", [2, 2, 2])
    snyk.answer("iac", [1])
    process = scans("dependencies", "code", "manifests")
    assert process.returncode == 1
    assert process.stdout.splitlines() == [
        "snyk dependencies: clean",
        "snyk code: failed",
        "snyk manifests: findings",
    ]
    assert verdict(workspace) == "findings"
    assert [command.split()[0] for command in snyk.commands] == ["test", "code", "code", "code", "iac"]
    assert all(" --severity-threshold=high --json-file-output=build/snyk/" in each for each in snyk.commands)


def test_an_image_is_scanned_by_its_name(workspace: Path, snyk: Snyk) -> None:
    assert scans("image", image="registry.example/orderflow:1").returncode == 0
    (command,) = snyk.commands
    assert command.startswith("container test registry.example/orderflow:1 --file=Dockerfile ")


@pytest.mark.parametrize("names", [[], ["all"]])
def test_no_scan_is_no_pass(workspace: Path, snyk: Snyk, names: list[str]) -> None:
    assert scans(*names).returncode == 2
    assert verdict(workspace) == "failed"


def test_without_a_token_or_an_image_or_snyk_nothing_is_known(
    workspace: Path, snyk: Snyk, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = scans("image")
    assert process.returncode == 2
    assert "the image to scan is not named: make snyk SCANS=image IMAGE=..." in process.stderr
    assert verdict(workspace) == "failed"
    monkeypatch.delenv("SNYK_TOKEN")
    process = scans("code")
    assert process.returncode == 2
    assert "SNYK_TOKEN is not set" in process.stderr
    assert verdict(workspace) == "failed"
    monkeypatch.setenv("SNYK_TOKEN", "a token")
    (workspace / "stub/snyk").unlink()
    process = scans("code")
    assert process.returncode == 2
    assert "snyk is not on the PATH" in process.stderr
    assert verdict(workspace) == "failed"


def signed(workspace: Path) -> subprocess.CompletedProcess[str]:
    """`make sign`, with a cosign that prints its arguments."""
    cosign = workspace / "cosign"
    cosign.write_text('#!/bin/sh\necho "cosign $*"\n')
    cosign.chmod(0o755)
    return subprocess.run(
        ["make", "--file", str(ROOT / "Makefile"), "--silent", "sign", "IMAGE=registry.example/orderflow"],
        env={"PATH": f"{workspace}{os.pathsep}{os.environ['PATH']}", "COSIGN_KEY": "/a/key"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_was_pushed_is_signed_and_attested_by_its_digest(workspace: Path) -> None:
    process = signed(workspace)
    assert process.returncode == 0, process.stderr
    assert [line.split()[1] for line in process.stdout.splitlines()] == ["sign", "attest"]
    assert all(line.endswith(f" registry.example/orderflow@{DIGEST}") for line in process.stdout.splitlines())


@pytest.mark.parametrize("content", ["", "{}", '{"containerimage.digest": "latest"}'])
def test_nothing_is_signed_without_the_digest_of_what_was_pushed(workspace: Path, content: str) -> None:
    (workspace / "build/image.json").write_text(content)
    process = signed(workspace)
    assert process.returncode != 0
    assert "build/image.json names no digest" in process.stderr
    assert process.stdout == ""


def test_a_tool_that_is_not_there_is_named() -> None:
    with pytest.raises(NotReadyError, match="no-such-program is not on the PATH"):
        run(["no-such-program"])


def built(command: Sequence[str]) -> bytes:
    """What `kubectl kustomize` says of an overlay."""
    return BUILT if "kustomize" in command else b""


def standing(phase: str, message: str) -> bytes:
    return json.dumps({"phase": phase, "message": message, "timedOut": False}).encode()


def test_staging_gets_the_image_by_its_digest_and_is_waited_for(workspace: Path) -> None:
    execute = RecordingExecutor()
    assert deploy.main(["staging", "--image", "registry.example/orderflow"], execute, built) == 0
    steps = [" ".join(command.split()[:3]) for command in execute.commands]
    assert f"TO=registry.example/orderflow@{DIGEST}" in execute.commands[0]
    assert steps[2:] == [
        "kubectl delete job",
        "kubectl apply --kustomize",
        "kubectl wait job/migrate",
        "kubectl apply --kustomize",
        "kubectl wait ksvc",
    ]
    assert all(
        "build/deploy/knative/overlays/staging" in command
        for command in execute.commands
        if "apply" in command
    )


def test_a_shop_s_own_folder_says_where_and_with_which_steps(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = workspace / "a shop's own"
    for name in ("production", "rollouts"):
        (site / name).mkdir(parents=True)
    monkeypatch.setenv("SITE", str(site))
    execute = RecordingExecutor()
    rendered = SERVICE.format(name="intake", namespace="shop").encode()
    assert deploy.main(["production", "--image", "i"], execute, lambda _: rendered) == 0
    applied = [command.split()[3] for command in execute.commands if command.startswith("kubectl apply")]
    assert applied == [f"build/deploy/site/{name}" for name in ("production", "rollouts", "production")]
    namespaced = [command for command in execute.commands if "--namespace" in command]
    assert len(namespaced) == 7
    assert all("--namespace shop" in command for command in namespaced)
    assert deploy.main(["staging", "--image", "i"], execute, built) == 0
    assert execute.commands[-2] == "kubectl apply --kustomize build/deploy/knative/overlays/staging"


def test_a_shop_s_folder_that_is_not_there_is_named(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SITE", "/no/such/folder")
    execute = RecordingExecutor()
    assert deploy.main(["staging", "--image", "i"], execute, built) == 2
    assert "SITE=/no/such/folder is no folder" in capsys.readouterr().err
    assert execute.commands == []


@pytest.mark.parametrize("namespaces", [[], ["a", "b"], ["''"]])
def test_services_of_no_or_of_several_namespaces_are_not_deployed(
    workspace: Path, namespaces: list[str]
) -> None:
    rendered = "---\n".join(SERVICE.format(name=name, namespace=name) for name in namespaces).encode()
    execute = RecordingExecutor()
    assert deploy.main(["staging", "--image", "i"], execute, lambda _: rendered) == 1
    assert not any(command.startswith("kubectl") for command in execute.commands)


def test_production_comes_by_rollouts_the_last_stage_first_and_waits_for_each(workspace: Path) -> None:
    execute = RecordingExecutor()
    assert deploy.main(["production", "--image", "i"], execute, built) == 0
    waited = [command.split()[2] for command in execute.commands if command.startswith("kn-rollout status")]
    assert waited == ["notify", "track", "validate"]
    assert (workspace / "build/rollouts/verdict").read_text() == "rolled out\n"


def test_a_rollout_that_was_taken_back_fails_and_says_which_analysis(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    execute = RecordingExecutor(status_track=[1])
    rollout_status = standing("Degraded", "the analysis order-outcomes failed")
    assert (
        deploy.main(["production", "--image", "i"], execute, lambda command: built(command) or rollout_status)
        == 1
    )
    verdict = "track: Degraded: the analysis order-outcomes failed"
    assert verdict in capsys.readouterr().err
    assert (workspace / "build/rollouts/verdict").read_text() == f"{verdict}\n"
    assert execute.commands[-1].startswith("kn-rollout get track")


@pytest.mark.parametrize(
    ("part", "steps"),
    [("set-image", 1), ("tests.manifests", 2), ("job/migrate", 5), ("ksvc", 7)],
)
def test_no_step_is_made_after_one_that_failed(workspace: Path, part: str, steps: int) -> None:
    execute = RecordingExecutor(**{part: [1]})
    assert deploy.main(["staging", "--image", "i"], execute, built) == 1
    assert len(execute.commands) == steps


@pytest.mark.parametrize("content", ["", "{}", '{"containerimage.digest": "latest"}'])
def test_nothing_is_deployed_without_the_digest_of_what_was_pushed(workspace: Path, content: str) -> None:
    (workspace / "build/image.json").write_text(content)
    execute = RecordingExecutor()
    assert deploy.main(["staging", "--image", "i"], execute, built) == 2
    assert execute.commands == []


def test_nothing_is_deployed_to_a_cluster_by_accident(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG")
    execute = RecordingExecutor()
    assert deploy.main(["production", "--image", "i"], execute, built) == 2
    assert execute.commands == []


def test_the_copy_that_is_deployed_leaves_the_checkout_alone(workspace: Path) -> None:
    before = (workspace / "knative/overlays/staging/kustomization.yaml").read_text()
    deploy.main(["staging", "--image", "i"], RecordingExecutor(), built)
    assert (workspace / "knative/overlays/staging/kustomization.yaml").read_text() == before
    assert (workspace / "build/deploy/knative/overlays/staging/kustomization.yaml").exists()


def accepted(policy: str) -> Iterator[dict[str, object]]:
    for paths in yaml.safe_load(policy)["ignore"].values():
        for path in paths:
            yield from path.values()


def faults_of(policy: str) -> list[str]:
    """What is wrong with the findings that a policy of Snyk's accepts."""
    faults = []
    for entry in accepted(policy):
        if not str(entry.get("reason") or "").strip():
            faults.append("no reason")
        if not isinstance(entry.get("expires"), datetime):
            faults.append("no expiry")
    return faults


def test_whatever_is_accepted_of_snyks_findings_has_a_reason_and_an_end() -> None:
    policy = (ROOT / ".snyk").read_text()
    assert faults_of(policy) == []
    entry = (
        "  SNYK-1:\n    - '*':\n        reason: none reads it\n        expires: 2027-01-31T00:00:00.000Z\n"
    )
    policy_with_entry = policy.replace("ignore: {}\n", f"ignore:\n{entry}")
    assert faults_of(policy_with_entry) == []
    assert faults_of(policy_with_entry.replace("none reads it", "''")) == ["no reason"]
    assert faults_of(policy_with_entry.replace("        expires: 2027-01-31T00:00:00.000Z\n", "")) == [
        "no expiry"
    ]
