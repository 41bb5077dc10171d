"""The number of pods over time, as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.cluster.burst import PIPELINE, Burst

if TYPE_CHECKING:
    from pathlib import Path


def draw(burst: Burst, file: Path) -> None:
    """Draws one step line per stage, and the times of the last order as vertical lines."""
    # fonttype none: text stays text. hashsalt: the same figures give the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "orderflow"}):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        axes = figure.subplots()
        for stage in PIPELINE:
            axes.step(burst.pods.at, burst.pods.ready[stage], where="post", label=stage)
        marks = {"confirmed": burst.sent, **burst.last}
        for (step, at), style in zip(marks.items(), ("-", "--", ":"), strict=True):
            axes.axvline(at, color="grey", linewidth=1, linestyle=style, label=f"all {step}, {at:.0f} s")
        axes.set_xlabel("seconds since the first request")
        axes.set_ylabel("ready pods")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_title(f"{burst.orders:,} orders from zero", fontsize=10)
        figure.legend(frameon=False, fontsize=8, loc="outside right upper")
        figure.savefig(file, format="svg", metadata={"Date": None})
