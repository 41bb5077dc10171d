"""The one table at the end, and what did not pass, by name."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.chaos.runner import Result


def show(results: Sequence[Result], seed: int, minutes: float, console: Console) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("fault", no_wrap=True)
    for column in ("runs", "orders", "lost", "doubled", "false", "parked", "mended", "back in"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for result in results:
        table.add_row(*_row(result))
    console.print(table)
    console.print(
        "doubled: effects / notifications (allowed where the receiver's protocol gives no better);"
        " false: called missing though the effect was there; parked: due / found; mended: made good by the audit;"
        " back in: until all that was sent had its outcome",
        highlight=False,
        style="dim",
    )
    for result in results:
        for fault in result.faults:
            console.print(f"{result.scenario.name}: {fault}", highlight=False, soft_wrap=True)
    doubled = sum(result.account.effects_twice for result in results)
    false_alarms = sum(result.false_alarms for result in results)
    failed = sum(not result.passed for result in results)
    lost = sum(result.account.losses for result in results)
    console.print(
        f"chaos: {len(results)} faults, {failed} not survived, {lost} lost, {doubled} doubled,"
        f" {false_alarms} falsely called missing, {minutes:.1f} minutes, seed {seed}",
        highlight=False,
    )


def _row(result: Result) -> tuple[str, ...]:
    totals = result.account
    allowed = f" ({result.allowed})" if result.allowed else ""
    return (
        result.scenario.fault,
        str(result.scenario.runs),
        f"{totals.orders:,}",
        "?" if result.hung else str(totals.losses),
        f"{totals.effects_twice} / {totals.sent_twice}{allowed}",
        "?" if result.hung else str(result.false_alarms),
        f"{totals.parks_due} / {totals.parks_found}",
        str(result.republished or "-"),
        "-" if result.recovered is None else f"{result.recovered:.1f} s",
        "survived" if result.passed else "NOT SURVIVED",
    )
