"""The releases that are tried: a good one, and five bad ones."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_FAULTY: Final = Path(__file__).parent / "faulty"
_MOUNTED: Final = "/faulty"
CONFIG_MAP: Final = "faulty"


@dataclass(frozen=True)
class Release:
    """fault: as tests/cluster/canary/faulty names it. The service's own code runs around it."""

    name: str
    service: str
    fault: str

    def template(self, before: dict[str, Any], met: str, mark: str) -> dict[str, Any]:
        """The Service's template with this release in it. mark makes it a new revision each time; met is where the
        revision tells whom it met, as a URL.
        """
        after = copy.deepcopy(before)
        container = after["spec"]["containers"][0]
        wanted = {
            "FUNCTION_SOURCE": f"{_MOUNTED}/{self.service}.py",
            "FAULT": self.fault,
            "MET": met,
            "RELEASE": mark,
        }
        kept = [entry for entry in container["env"] if entry["name"] not in wanted]
        container["env"] = [*kept, *({"name": name, "value": value} for name, value in wanted.items())]
        container["volumeMounts"] = [
            *(mount for mount in container["volumeMounts"] if mount["name"] != CONFIG_MAP),
            {"name": CONFIG_MAP, "mountPath": _MOUNTED, "readOnly": True},
        ]
        after["spec"]["volumes"] = [
            *(volume for volume in after["spec"]["volumes"] if volume["name"] != CONFIG_MAP),
            {"name": CONFIG_MAP, "configMap": {"name": CONFIG_MAP}},
        ]
        return after


GOOD: Final = Release("good", "validate", "none")
BAD: Final = (
    Release("answers 5xx", "validate", "errors"),
    Release("slow (6 s an event)", "validate", "slow"),
    Release("rejects 10 % wrongly", "validate", "rejecting"),
    Release("crashes at start", "validate", "crashing"),
    Release("silently does not notify", "notify", "silent"),
)


def config_map() -> dict[str, Any]:
    """The faulty stages, to be mounted; the image that is released stays the same."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP},
        "data": {file.name: file.read_text() for file in sorted(_FAULTY.glob("*.py"))},
    }
