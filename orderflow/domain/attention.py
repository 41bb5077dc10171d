"""The reasons why an order needs attention, by the names that query's API and `kn order list --need` use."""

from __future__ import annotations

from typing import Final

from orderflow.domain.deadlines import SEQUENCE_GAP, STATUSES, WAITING_EXPIRES, PaymentLimits, stuck_code

STUCK_CODES: Final = tuple(stuck_code(name) for name in (*STATUSES, *PaymentLimits.model_fields))
ALERT_CODES: Final[dict[str, tuple[str, ...]]] = {
    "stuck": STUCK_CODES,
    **{code: (code,) for code in (*STUCK_CODES, SEQUENCE_GAP, WAITING_EXPIRES)},
}
"""The alerts that each reason stands for, where the shop's time limits decide."""
NEEDS: Final = ("held", "awaited", "refund_due", "unpaid", "notification_failed", *ALERT_CODES)
"""Every reason, the most urgent first, then those that the shop's time limits decide."""
