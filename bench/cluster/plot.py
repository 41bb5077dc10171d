"""Pods over time, as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.cluster.burst import PIPELINE, Burst

if TYPE_CHECKING:
    from pathlib import Path


def draw(found: Burst, file: Path) -> None:
    """One step line a stage; the last order's times as upright lines."""
    # Text stays text, and the same figures give the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "orderflow"}):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        axes = figure.subplots()
        for stage in PIPELINE:
            axes.step(found.pods.at, found.pods.ready[stage], where="post", label=stage)
        marks = {"confirmed": found.sent, **found.last}
        for (what, at), style in zip(marks.items(), ("-", "--", ":"), strict=True):
            axes.axvline(at, color="grey", linewidth=1, linestyle=style, label=f"all {what}, {at:.0f} s")
        axes.set_xlabel("seconds since the first request")
        axes.set_ylabel("ready pods")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_title(f"{found.orders:,} orders from zero", fontsize=10)
        figure.legend(frameon=False, fontsize=8, loc="outside right upper")
        figure.savefig(file, format="svg", metadata={"Date": None})
