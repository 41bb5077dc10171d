"""What admission checks beyond the types of the fields. Keys are the names of the models of spec.py."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

_OBJECT: Final[Schema] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_LIST: Final[Schema] = {"type": "array", "items": _OBJECT}
_INT_OR_STRING: Final[Schema] = {"x-kubernetes-int-or-string": True}
_INTEGER: Final[Schema] = {"type": "integer"}
_STRING: Final[Schema] = {"type": "string"}

_RUN_OPTIONS: Final = {"dryRun": _LIST, "measurementRetention": _LIST, "analysisRunMetadata": _OBJECT}
REJECTED_FIELDS: Final[dict[str, dict[str, Schema]]] = {
    "Spec": {
        "replicas": _INTEGER,
        "selector": _OBJECT,
        "template": _OBJECT,
        "minReadySeconds": _INTEGER,
        "restartAt": _STRING,
    },
    "Strategy": {"blueGreen": _OBJECT},
    "Canary": {
        "canaryService": _STRING,
        "stableService": _STRING,
        "trafficRouting": _OBJECT,
        "maxUnavailable": _INT_OR_STRING,
        "maxSurge": _INT_OR_STRING,
        "antiAffinity": _OBJECT,
        "canaryMetadata": _OBJECT,
        "stableMetadata": _OBJECT,
        "scaleDownDelayRevisionLimit": _INTEGER,
        "dynamicStableScale": {"type": "boolean"},
        "pingPong": _OBJECT,
        "minPodsPerReplicaSet": _INTEGER,
    },
    "Step": {
        "experiment": _OBJECT,
        "setCanaryScale": _OBJECT,
        "setHeaderRoute": _OBJECT,
        "setMirrorRoute": _OBJECT,
        "plugin": _OBJECT,
    },
    "Analysis": _RUN_OPTIONS,
    "BackgroundAnalysis": _RUN_OPTIONS,
}
"""By model: the fields of Argo Rollouts that a Knative Service does not support.

They are declared so that admission can refuse them by name. An undeclared field would be dropped silently.
"""
CEL_RULES: Final[dict[str, list[tuple[str, str]]]] = {
    "WorkloadRef": [("self == oldSelf", "a rollout keeps its Service; make another rollout")],
    "Step": [
        (
            "[has(self.setWeight), has(self.pause), has(self.analysis)].filter(given, given).size() == 1",
            "a step is exactly one of setWeight, pause and analysis",
        )
    ],
    "Arg": [("has(self.value) != has(self.valueFrom)", "exactly one of value and valueFrom")],
    "ValueFrom": [
        (
            "has(self.podTemplateHashValue) != has(self.fieldRef)",
            "exactly one of podTemplateHashValue and fieldRef",
        )
    ],
    "Canary": [
        (
            "!has(self.analysis) || self.analysis.startingStep < self.steps.size()",
            "analysis.startingStep is not one of the steps",
        )
    ],
}
"""By model: (rule, message if it does not hold). They repeat what the models' validators check."""
