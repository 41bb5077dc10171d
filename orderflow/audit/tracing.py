"""Records a span for each run of the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind

if TYPE_CHECKING:
    from orderflow.adapters.telemetry.traces import Telemetry
    from orderflow.audit.report import Report
    from orderflow.audit.run import AuditRun


def traced(run: AuditRun, telemetry: Telemetry) -> AuditRun:
    async def traced_run() -> Report | None:
        with telemetry.span("audit run", None, SpanKind.INTERNAL, {}) as span:
            report = await run()
            if report is not None:
                span.set_attributes(
                    {
                        "orderflow.outcome": report.state.value,
                        "orderflow.audit.records": report.records,
                        "orderflow.audit.missing": report.missing,
                    }
                )
            return report

    return traced_run
