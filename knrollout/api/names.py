"""Names that others see: API groups, tags, labels and annotations. Changing one breaks what runs."""

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

# Tags of a Route: each gives its revision an address of its own.
CANARY_TAG: Final = "canary"
PREVIOUS_TAG: Final = "previous"
OWN_TAGS: Final = frozenset({CANARY_TAG, PREVIOUS_TAG})

# On the Service: which split was written last, as `<rollout>/<serial>`.
SPLIT_ANNOTATION: Final = f"{GROUP}/rollout-split"

# On AnalysisRuns.
ROLLOUT_LABEL: Final = f"{GROUP}/rollout"
REVISION_LABEL: Final = f"{GROUP}/revision"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"

# On the KnativeRollout, written by people; see requests.py.
PROMOTE_ANNOTATION: Final = f"{GROUP}/promote"
ABORT_ANNOTATION: Final = f"{GROUP}/abort"
RETRY_ANNOTATION: Final = f"{GROUP}/retry"
RERUN_ANNOTATION: Final = f"{GROUP}/rerun"
UNDO_ANNOTATION: Final = f"{GROUP}/undo"
TAKE_OVER_ANNOTATION: Final = f"{GROUP}/take-over"
# And who asked last, where somebody asks for another: it changes nothing.
ASKED_BY_ANNOTATION: Final = f"{GROUP}/asked-by"

# Knative's own labels on a Revision.
CONFIGURATION_LABEL: Final = f"{SERVING_GROUP}/configuration"
GENERATION_LABEL: Final = f"{SERVING_GROUP}/configurationGeneration"
