"""The table in docs/reference/scaling.md is what `python -m bench.sizing` prints, computed from the
figures of docs/reference/benchmarks.md."""

import re
from itertools import pairwise
from pathlib import Path

import yaml

from bench import sizing

ROOT = Path(__file__).parents[3]


def test_the_table_in_the_docs_is_what_the_command_prints() -> None:
    text = (ROOT / "docs/reference/scaling.md").read_text()
    match = re.search(r"<!-- bench\.sizing -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert match is not None
    assert match.group(1) == sizing.table(sizing.RATES)


def test_the_cpu_of_each_stage_is_the_benchmarks() -> None:
    lines = (ROOT / "docs/reference/benchmarks.md").read_text().splitlines()
    cpu = {"intake": "intake, POST /orders", "validate": "validate", "notify": "notify, e-mail"}
    cpu["track"] = "track, 64 in flight"
    for stage, named in cpu.items():
        (line,) = (each for each in lines if each.strip().startswith(named + "  "))
        # events/s, from-to, orders/s, then CPU
        assert int(line.split(named)[1].split()[3]) == sizing.CPU_US[stage]


def test_production_has_room_for_peaks_of_a_hundred_orders_a_second_twice_over() -> None:
    overlay = yaml.safe_load((ROOT / "kafka/overlays/production/kustomization.yaml").read_text())
    (patch,) = (each for each in overlay["patches"] if each["target"].get("name") == "brokers")
    (operation,) = yaml.safe_load(patch["patch"])
    size = int(operation["value"].removesuffix("Gi")) * sizing.COPIES
    assert size >= 2 * sizing.need(100).logs


def test_the_topics_have_partitions_for_as_much() -> None:
    topics = yaml.safe_load_all((ROOT / "kafka/base/topics.yaml").read_text())
    assert min(topic["spec"]["partitions"] for topic in topics) >= sizing.need(100).partitions


def test_more_orders_need_more_of_everything() -> None:
    needs = [sizing.need(rate) for rate in sizing.RATES]
    for less, more in pairwise(needs):
        assert more.partitions > less.partitions
        assert more.dollars > less.dollars
        assert more.stages + more.kafka + more.postgres > less.stages + less.kafka + less.postgres
