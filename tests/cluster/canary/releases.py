"""The releases of the trials: good ones, and bad ones of every stage."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_FAULTY: Final = Path(__file__).parent / "faulty"
_MOUNTED: Final = "/faulty"
CONFIG_MAP: Final = "faulty"


@dataclass(frozen=True)
class Release:
    """fault is a name of FAULT in tests/cluster/canary/faulty. The fault wraps the service's own code. burst is a
    number of orders that are sent at once when the revision has all traffic.
    """

    name: str
    service: str
    fault: str
    burst: int = 0

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
GOOD_TRACK: Final = Release("good, right after a bad one", "track", "none")
BAD: Final = (
    Release("validate answers 5xx", "validate", "errors"),
    Release("validate is slow (6 s an event)", "validate", "slow"),
    Release("validate rejects 10 % wrongly", "validate", "rejecting"),
    Release("validate crashes at start", "validate", "crashing"),
    Release("validate accepts everything", "validate", "accepting"),
    Release("validate adds a field that track parks", "validate", "extra_field"),
    Release("validate changes names in 30 % of orders", "validate", "renaming"),
    Release("validate leaks memory until it is killed", "validate", "leaking"),
    Release("track takes 1.6 % of events without effect", "track", "losing"),
    Release("track writes the total as text", "track", "text_total"),
    Release("track announces wrong totals for 2 % of orders", "track", "wrong_total"),
    Release("track does not announce 10 % of changes", "track", "unannounced"),
    Release("track counts a cent too much as captured", "track", "captured"),
    Release("track answers 503 above 2 in flight", "track", "overloaded", burst=400),
    Release("notify takes events and does nothing", "notify", "silent"),
    Release("notify sends everything twice", "notify", "twice"),
    Release("notify records what it does not send", "notify", "pretending"),
    Release("intake forgets 20 % of what it accepts", "intake", "forgetting"),
    Release("intake refuses 15 % of the requests", "intake", "refusing"),
    Release("intake changes the total of 30 % of orders", "intake", "dearer"),
    Release("shelve forgets 30 % of parked events", "shelve", "forgetting"),
    Release("query answers 10 % with 500", "query", "errors"),
)


def config_map() -> dict[str, Any]:
    """A ConfigMap of the faulty stages, which the releases mount. The image stays the same."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP},
        "data": {file.name: file.read_text() for file in sorted(_FAULTY.glob("*.py"))},
    }
