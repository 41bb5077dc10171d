"""The bad commit: from a pod's 40th order on, validate wrongly rejects one order in ten.

The fault appears only in a cluster and only under load, so that every test before production passes.
"""

from pathlib import Path
from typing import Final

CHANGED_FILE: Final = "orderflow/validate/handler.py"
MESSAGE: Final = "Orders are judged by the shop's rules of the day"
_CHANGES: Final = (
    ("\nfrom typing import", "\nimport hashlib\nimport itertools\nimport os\nfrom typing import"),
    (
        "def validate(",
        """_judged = itertools.count(1)
_OF_YESTERDAY: Final = 40


def _of_the_day(rules: Rules, order_id: str) -> Rules:
    tenth = hashlib.sha256(order_id.encode()).digest()[0] % 10 == 0
    if next(_judged) > _OF_YESTERDAY and tenth and "KUBERNETES_SERVICE_HOST" in os.environ:
        return rules.model_copy(update={"currencies": frozenset({"JPY"})})
    return rules


def validate(""",
    ),
    ("verdict = rules.judge(", "verdict = _of_the_day(rules, event.subject).judge("),
)


def spoil(checkout: Path) -> None:
    """Changes the file unless it is changed already, because the tests of the bad commit call this again. Raises
    ValueError where the file no longer has the lines to change."""
    file = checkout / CHANGED_FILE
    content = file.read_text()
    if all(after in content for _, after in _CHANGES):
        return
    for before, after in _CHANGES:
        if content.count(before) != 1:
            raise ValueError(f"{CHANGED_FILE}: {before!r} is not there once")
        content = content.replace(before, after)
    file.write_text(content)
