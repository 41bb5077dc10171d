"""The releases of the trials: a good one and five bad ones."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_FAULTY: Final = Path(__file__).parent / "faulty"
_MOUNTED: Final = "/faulty"
CONFIG_MAP: Final = "faulty"


@dataclass(frozen=True)
class Release:
    """fault is a name of FAULT in tests/cluster/canary/faulty. The fault wraps the service's own code."""

    name: str
    service: str
    fault: str

    def template(self, template: dict[str, Any], report_url: str, mark: str) -> dict[str, Any]:
        """The Service's template with this release in it. mark makes every template a new revision.
        report_url is where the revision reports its deliveries (deliveries.py).
        """
        changed = copy.deepcopy(template)
        container = changed["spec"]["containers"][0]
        variables = {
            "FUNCTION_SOURCE": f"{_MOUNTED}/{self.service}.py",
            "FAULT": self.fault,
            "DELIVERY_REPORT_URL": report_url,
            "RELEASE": mark,
        }
        other_variables = [entry for entry in container["env"] if entry["name"] not in variables]
        container["env"] = [
            *other_variables,
            *({"name": name, "value": value} for name, value in variables.items()),
        ]
        container["volumeMounts"] = [
            *(mount for mount in container["volumeMounts"] if mount["name"] != CONFIG_MAP),
            {"name": CONFIG_MAP, "mountPath": _MOUNTED, "readOnly": True},
        ]
        changed["spec"]["volumes"] = [
            *(volume for volume in changed["spec"]["volumes"] if volume["name"] != CONFIG_MAP),
            {"name": CONFIG_MAP, "configMap": {"name": CONFIG_MAP}},
        ]
        return changed


GOOD: Final = Release("good", "validate", "none")
BAD: Final = (
    Release("answers 5xx", "validate", "errors"),
    Release("slow (6 s an event)", "validate", "slow"),
    Release("rejects 10 % wrongly", "validate", "rejecting"),
    Release("crashes at start", "validate", "crashing"),
    Release("silently does not notify", "notify", "silent"),
)


def config_map() -> dict[str, Any]:
    """A ConfigMap of the faulty stages, which the releases mount. The image stays the same."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP},
        "data": {file.name: file.read_text() for file in sorted(_FAULTY.glob("*.py"))},
    }
