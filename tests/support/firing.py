"""When each alert fires, and when it does not: series as promtool writes them, a value a minute."""

from dataclasses import dataclass

HTTP = "http_server_request_duration_seconds"


@dataclass(frozen=True)
class Case:
    """fires are the labels of the alert that fires at that time, without its severity; None: none does."""

    alert: str
    name: str
    series: dict[str, str]
    at: str
    fires: dict[str, str] | None


def requests(stage: str, good: str, bad: str) -> dict[str, str]:
    labels = f'job="orderflow-stages",stage="{stage}",revision="{stage}-00001",instance="{stage}"'
    return {
        f'{HTTP}_count{{{labels},http_response_status_code="202"}}': good,
        f'{HTTP}_count{{{labels},http_response_status_code="503"}}': bad,
    }


def latency(below: str, rest: str, stage: str = "intake") -> dict[str, str]:
    labels = f'job="orderflow-stages",stage="{stage}",revision="{stage}-00001"'
    return {
        f'{HTTP}_bucket{{{labels},le="0.1"}}': below,
        f'{HTTP}_bucket{{{labels},le="5"}}': rest,
        f'{HTTP}_bucket{{{labels},le="+Inf"}}': rest,
    }


def offsets(log: str, done: str) -> dict[str, str]:
    place = 'topic="orders.events.v1",partition="3"'
    return {
        f"kafka_topic_partition_current_offset{{{place}}}": log,
        f'kafka_consumergroup_current_offset{{{place},consumergroup="orderflow-track"}}': done,
    }


def pods(desired: str, requested: str) -> dict[str, str]:
    labels = 'k8s_namespace_name="orderflow",kn_service_name="track",kn_revision_name="track-00001"'
    return {
        f"kn_revision_pods_desired{{{labels}}}": desired,
        f"kn_revision_pods_requested{{{labels}}}": requested,
    }


def synced(copies: str) -> dict[str, str]:
    return {
        f'kafka_topic_partition_in_sync_replica{{topic="orders.inbox.v1",partition="{number}"}}': values
        for number, values in enumerate(("3x30", copies))
    }


UP = 'up{job="orderflow-query",instance="query"}'
QUERY = {"job": "orderflow-query", "instance": "query"}
ON_QUERY = 'job="orderflow-query",instance="query"'
MISSING = f"orderflow_audit_missing_events{{{ON_QUERY}}}"
COMPLETE = f"orderflow_audit_complete{{{ON_QUERY}}}"
FINISHED = f"orderflow_audit_finished_timestamp_seconds{{{ON_QUERY}}}"
PARKED = 'orderflow_parked_events{{stage="track",code="{code}",state="{state}"}}'
OPEN = PARKED.format(code="amount_mismatch", state="open")
DONE = PARKED.format(code="amount_mismatch", state="replayed")
DEAD = PARKED.format(code="dead_letter", state="open")
UNAVAILABLE = PARKED.format(code="unavailable", state="replayed")
FAILED = 'orderflow_notifications{channel="email",state="failed"}'
SENT = 'orderflow_notifications{channel="email",state="sent"}'
SEEN = {"orderflow_waiting_events": "0x40"}
STUCK = 'orderflow_orders_stuck{code="stuck_held"}'
BEHIND = {"consumergroup": "orderflow-track", "topic": "orders.events.v1"}
DEGRADED = 'knrollout_phase{namespace="orderflow",rollout="track",phase="Degraded"}'
HEALTHY = 'knrollout_phase{namespace="orderflow",rollout="track",phase="Healthy"}'
PAUSED = 'knrollout_phase{namespace="orderflow",rollout="track",phase="Paused"}'
ROLLOUT = {"namespace": "orderflow", "rollout": "track"}
TRACK = {"stage": "track"}

FIRST = [
    Case("OrderflowEventsMissing", "two are", {MISSING: "0 2 2"}, "2m", QUERY),
    Case("OrderflowEventsMissing", "the next audit finds none", {MISSING: "2 0 0"}, "2m", None),
    Case("OrderflowAuditNotRun", "the last was long ago", {UP: "1x40", FINISHED: "0x40"}, "37m", QUERY),
    Case("OrderflowAuditNotRun", "there never was one", {UP: "1x10"}, "6m", QUERY),
    Case("OrderflowAuditNotRun", "they run", {UP: "1x40", FINISHED: "0x5 300x5 600x30"}, "37m", None),
    Case("OrderflowAuditNotRun", "query is down, which is another alert", {UP: "0x10"}, "9m", None),
    Case("OrderflowAuditUnsure", "for long", {COMPLETE: "0x40", MISSING: "0x40"}, "31m", QUERY),
    Case("OrderflowAuditUnsure", "once", {COMPLETE: "0x10 1x30", MISSING: "0x40"}, "31m", None),
    Case("OrderflowAuditUnsure", "something is missing", {COMPLETE: "0x40", MISSING: "1x40"}, "31m", None),
    Case("OrderflowParkedGrowing", "from none", SEEN | {OPEN: "_x20 11x10"}, "23m", TRACK),
    Case("OrderflowParkedGrowing", "from some", SEEN | {OPEN: "100x20 111x10", DONE: "50x40"}, "23m", TRACK),
    Case("OrderflowParkedGrowing", "slowly", SEEN | {OPEN: "100x20 105x10"}, "23m", None),
    Case("OrderflowParkedGrowing", "Prometheus has just begun", SEEN | {OPEN: "100x20"}, "8m", None),
    Case("OrderflowParkedGrowing", "mended", SEEN | {OPEN: "5x30", DONE: "0x20 50x10"}, "23m", None),
    Case("OrderflowDeadLetters", "the first", SEEN | {UNAVAILABLE: "_x20 6x10"}, "23m", TRACK),
    Case("OrderflowDeadLetters", "more", SEEN | {DEAD: "5x20 11x10", OPEN: "50x40"}, "23m", TRACK),
    Case("OrderflowDeadLetters", "few", SEEN | {DEAD: "5x20 8x10"}, "23m", None),
    Case("OrderflowDeadLetters", "they were there", SEEN | {DEAD: "50x40"}, "30m", None),
    Case("OrderflowDeadLetters", "poison", SEEN | {OPEN: "0x20 50x10", DEAD: "5x40"}, "23m", None),
    Case("OrderflowOrdersStuck", "held too long", {STUCK: "1x20"}, "16m", {"code": "stuck_held"}),
    Case("OrderflowOrdersStuck", "for a moment", {STUCK: "1x10 0x10"}, "16m", None),
    Case("OrderflowSequenceGaps", "they stay", {"orderflow_sequence_gaps": "2x20"}, "16m", {}),
    Case("OrderflowSequenceGaps", "it closes", {"orderflow_sequence_gaps": "2x10 0x10"}, "16m", None),
    Case("OrderflowWaitingExpires", "soon", {"orderflow_waiting_expires": "1x10"}, "6m", {}),
    Case("OrderflowWaitingExpires", "none", {"orderflow_waiting_expires": "0x10"}, "6m", None),
    Case("OrderflowNotificationsFail", "many", SEEN | {FAILED: "_x20 6x10"}, "23m", {"channel": "email"}),
    Case(
        "OrderflowNotificationsFail",
        "more",
        SEEN | {FAILED: "5x20 11x10", SENT: "500x40"},
        "23m",
        {"channel": "email"},
    ),
    Case("OrderflowNotificationsFail", "few", SEEN | {FAILED: "5x20 8x10"}, "23m", None),
    Case("OrderflowNotificationsFail", "old ones", SEEN | {FAILED: "60x30", SENT: "0+9x30"}, "25m", None),
    Case("OrderflowConsumerBehind", "one stands still", offsets("0+60x20", "60x20"), "12m", BEHIND),
    Case("OrderflowConsumerBehind", "it is slow but close", offsets("0+60x20", "0 0+60x20"), "12m", None),
    Case("OrderflowConsumerBehind", "nothing comes and all is done", offsets("60x20", "60x20"), "12m", None),
    Case("OrderflowConsumerStopped", "for long", offsets("0+60x40", "60x40"), "25m", BEHIND),
    Case("OrderflowConsumerStopped", "for 10 minutes", offsets("0x20 0+60x20", "0x40"), "32m", None),
    Case(
        "OrderflowIntakeErrors",
        "2 of 100",
        requests("intake", "0+98x20", "0+2x20") | requests("track", "0+9999x20", "0x20"),
        "11m",
        {},
    ),
    Case("OrderflowIntakeErrors", "1 of 200", requests("intake", "0+199x20", "0+1x20"), "11m", None),
    Case(
        "OrderflowIntakeErrors",
        "another stage",
        requests("track", "0+9x20", "0+91x20") | requests("intake", "0+100x20", "0x20"),
        "11m",
        None,
    ),
    Case("OrderflowIntakeSlow", "2 of 100", latency("0+98x20", "0+100x20"), "16m", {}),
    Case(
        "OrderflowIntakeSlow",
        "quick, and another stage slow",
        latency("0+999x20", "0+1000x20") | latency("0x20", "0+1000x20", "notify"),
        "16m",
        None,
    ),
    Case("OrderflowStageErrors", "10 %", requests("track", "0+90x20", "0+10x20"), "16m", TRACK),
    Case("OrderflowStageErrors", "2 %", requests("track", "0+98x20", "0+2x20"), "16m", None),
    Case(
        "OrderflowScaleAtMax",
        "it wants more",
        pods("14x20", "10x20"),
        "11m",
        {"kn_service_name": "track", "kn_revision_name": "track-00001"},
    ),
    Case("OrderflowScaleAtMax", "it has what it wants", pods("10x20", "10x20"), "11m", None),
    Case("OrderflowQueryDown", "it fails", {UP: "0x10"}, "6m", QUERY),
    Case("OrderflowQueryDown", "nobody asks it", {"up": "1x10"}, "6m", {"job": "orderflow-query"}),
    Case("OrderflowQueryDown", "it starts from zero", {UP: "0x1 1x10"}, "6m", None),
    Case(
        "OrderflowDatabaseDown",
        "track fails and query too",
        requests("track", "0x20", "0+50x20") | requests("validate", "0+999x20", "0x20") | {UP: "0x20"},
        "10m",
        {},
    ),
    Case(
        "OrderflowDatabaseDown",
        "query counts",
        requests("track", "0x20", "0+50x20") | {UP: "1x20"},
        "10m",
        None,
    ),
    Case(
        "OrderflowDatabaseDown",
        "track works",
        requests("track", "0+45x20", "0+5x20") | requests("validate", "0x20", "0+99x20") | {UP: "0x20"},
        "10m",
        None,
    ),
    Case("OrderflowKafkaReadOnly", "one copy", synced("1x30"), "2m", {"topic": "orders.inbox.v1"}),
    Case("OrderflowKafkaReadOnly", "two copies", synced("2x30"), "2m", None),
    Case("OrderflowKafkaBrokerDown", "two of three", {"kafka_brokers": "2x10"}, "6m", {}),
    Case("OrderflowKafkaBrokerDown", "a restart", {"kafka_brokers": "2x3 3x10"}, "6m", None),
    Case("OrderflowKafkaUnseen", "none", {"up": "1x10"}, "6m", {}),
    Case("OrderflowKafkaUnseen", "it is seen", {"kafka_brokers": "3x10"}, "6m", None),
    Case("OrderflowRolloutAborted", "it was", {DEGRADED: "0 1 1"}, "2m", ROLLOUT),
    Case("OrderflowRolloutAborted", "it was retried", {DEGRADED: "1 0 0", HEALTHY: "0 1 1"}, "2m", None),
    Case("OrderflowRolloutWaits", "for hours", {PAUSED: "1x70"}, "61m", ROLLOUT),
    Case("OrderflowRolloutWaits", "a step", {PAUSED: "1x30 0x40", HEALTHY: "1x70"}, "61m", None),
    Case(
        "OrderflowRolloutStalls",
        "again and again",
        {'knrollout_troubles_total{kind="ClusterError"}': "0+1x30"},
        "20m",
        {"kind": "ClusterError"},
    ),
    Case(
        "OrderflowRolloutStalls",
        "once",
        {'knrollout_troubles_total{kind="ClusterError"}': "0x10 1x20"},
        "20m",
        None,
    ),
]

EARLY = {
    "OrderflowAuditNotRun": "34m",
    "OrderflowAuditUnsure": "29m",
    "OrderflowOrdersStuck": "14m",
    "OrderflowSequenceGaps": "14m",
    "OrderflowWaitingExpires": "4m",
    "OrderflowConsumerBehind": "8m",
    "OrderflowConsumerStopped": "23m",
    "OrderflowIntakeErrors": "5m",
    "OrderflowIntakeSlow": "10m",
    "OrderflowStageErrors": "10m",
    "OrderflowScaleAtMax": "9m",
    "OrderflowQueryDown": "4m",
    "OrderflowDatabaseDown": "2m",
    "OrderflowKafkaReadOnly": "0m",
    "OrderflowKafkaBrokerDown": "4m",
    "OrderflowKafkaUnseen": "4m",
    "OrderflowRolloutWaits": "59m",
    "OrderflowRolloutStalls": "8m",
}
"""When that which fires in an alert's first case is there already, and may still be over in a moment."""

CASES = FIRST + [
    Case(alert, "not yet", next(case.series for case in FIRST if case.alert == alert), at, None)
    for alert, at in EARLY.items()
]
