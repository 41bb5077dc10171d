"""What monitoring/ holds: rules, and every query that it asks."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from support.stage import ROOT

MONITORING = ROOT / "monitoring"
RULES: dict[str, Any] = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]
}
FOREIGN: dict[str, str] = yaml.safe_load((MONITORING / "foreign-metrics.yaml").read_text())
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
VARIABLES = {"$__rate_interval": "5m", "$stage": ".+", "$revision": ".+"}


def expressions() -> Iterator[tuple[str, str]]:
    """Where it is, and the query, of every rule, panel, variable and annotation."""
    for name, rule in ALERTS.items():
        yield name, rule["expr"]
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']}", plain(target["expr"])
        for annotation in board["annotations"]["list"]:
            yield f"{path.stem}: {annotation['name']}", plain(annotation["expr"])
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
                assert match, variable["query"]
                yield f"{path.stem}: ${variable['name']}", plain(match[1])


def plain(query: str) -> str:
    """Without Grafana's variables."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


EXPRESSIONS = list(expressions())


def names(query: str) -> set[str]:
    """The metrics that a query asks for: what is left of its words without texts, labels, functions and keywords."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', query)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\boffset\s+\w+", "", bare)
    words = set(re.findall(r"\b([a-zA-Z_:][\w:]*)\b(?!\s*\()", bare))
    return words - {"and", "or", "unless", "bool", "sum", "max", "min", "count", "avg"}
