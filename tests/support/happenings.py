"""Events of every sort for the model tests: as hypothesis draws them, and as they are sent."""

from hypothesis import strategies as st

from orderflow.domain.rules import Rules
from orderflow.messaging.cloudevent import CloudEvent
from support.events import event, order
from support.faults import POINTS, Fault
from support.model import MONEY, MOVES, Happening

RULES = Rules.model_validate({"review": {"EUR": 100_000}})
PRICES = {"accepted": 2900, "rejected": 1, "held": 120_400}
TIMES = tuple(f"2026-11-23T10:00:0{second}Z" for second in range(3))

happenings = st.builds(
    Happening,
    order_id=st.sampled_from(("a", "b")),
    kind=st.sampled_from(("placed", "placed", "paid", "shipped", "refunded", *MOVES)),
    source=st.sampled_from(("/shop", "/bank")),
    id=st.just(""),
    time=st.sampled_from(TIMES),
    verdict=st.sampled_from(("accepted", "accepted", "held", "rejected")),
    amount=st.sampled_from((2900, 2900, 2900, 1450, 120_400)),
    currency=st.sampled_from(("EUR",) * 9 + ("JPY",)),
    gift=st.sampled_from(("", "", "", "yes")),
)
faults = st.one_of(
    st.just(Fault()), st.builds(Fault, st.sampled_from(POINTS), st.booleans(), st.integers(0, 2))
)


def inbox_event(given: Happening) -> CloudEvent:
    data: dict[str, object] = {}
    if given.kind == "placed":
        price = (PRICES["held"] - 400) // 2 if given.verdict == "held" else 1250
        line = {"sku": "MUG-BLUE", "quantity": 2, "unit_price": price}
        data = order(lines=[line], total=given.total) | ({"metadata": {"gift": "yes"}} if given.gift else {})
    elif given.kind in MONEY:
        data = {"amount": given.amount, "currency": given.currency}
    told = event(given.kind, given.order_id, data, source=given.source, id=given.id, time=given.time)
    return told.with_extensions(replay=given.replay) if given.replay else told
