"""API groups, kinds, tags, labels and annotations. They are public: changing one breaks running rollouts."""

from __future__ import annotations

from typing import Final

GROUP: Final = "orderflow.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "KnativeRollout"
PLURAL: Final = "knativerollouts"

SERVING_GROUP: Final = "serving.knative.dev"
SERVING_VERSION: Final = "v1"
ARGO_GROUP: Final = "argoproj.io"
ARGO_VERSION: Final = "v1alpha1"

# Tags in a Service's traffic. Each gives its revision an address of its own.
CANARY_TAG: Final = "canary"
PREVIOUS_TAG: Final = "previous"
OWN_TAGS: Final = frozenset({CANARY_TAG, PREVIOUS_TAG})

# On the Service: the last split that was written, as `<rollout>/<serial>`.
SPLIT_ANNOTATION: Final = f"{GROUP}/rollout-split"

# On AnalysisRuns.
ROLLOUT_LABEL: Final = f"{GROUP}/rollout"
REVISION_LABEL: Final = f"{GROUP}/revision"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"

# On the KnativeRollout: requests of people. requests.py describes their values.
PROMOTE_ANNOTATION: Final = f"{GROUP}/promote"
ABORT_ANNOTATION: Final = f"{GROUP}/abort"
RETRY_ANNOTATION: Final = f"{GROUP}/retry"
RERUN_ANNOTATION: Final = f"{GROUP}/rerun"
UNDO_ANNOTATION: Final = f"{GROUP}/undo"
TAKE_OVER_ANNOTATION: Final = f"{GROUP}/take-over"
# On the KnativeRollout: the operator of the last request. Informative only; the controller does not read it.
ASKED_BY_ANNOTATION: Final = f"{GROUP}/asked-by"

# On Revisions and Pods, by Knative.
SERVICE_LABEL: Final = f"{SERVING_GROUP}/service"
REVISION_OF_POD_LABEL: Final = f"{SERVING_GROUP}/revision"
GENERATION_LABEL: Final = f"{SERVING_GROUP}/configurationGeneration"
