"""Events of every sort for the model tests: as hypothesis draws them, and as they are sent."""

from hypothesis import strategies as st

from orderflow.domain.rules import Rules
from orderflow.messaging.cloudevent import CloudEvent
from support.events import event, order
from support.faults import POINTS, Fault
from support.model import MONEY, MOVES, ModelEvent

RULES = Rules.model_validate({"review": {"EUR": 100_000}})
PRICES = {"accepted": 2900, "rejected": 1, "held": 120_400}
TIMES = tuple(f"2026-11-23T10:00:0{second}Z" for second in range(3))

model_events = st.builds(
    ModelEvent,
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


def inbox_event(model_event: ModelEvent) -> CloudEvent:
    data: dict[str, object] = {}
    if model_event.kind == "placed":
        price = (PRICES["held"] - 400) // 2 if model_event.verdict == "held" else 1250
        line = {"sku": "MUG-BLUE", "quantity": 2, "unit_price": price}
        data = order(lines=[line], total=model_event.total) | (
            {"metadata": {"gift": "yes"}} if model_event.gift else {}
        )
    elif model_event.kind in MONEY:
        data = {"amount": model_event.amount, "currency": model_event.currency}
    inbox = event(
        model_event.kind,
        model_event.order_id,
        data,
        source=model_event.source,
        id=model_event.id,
        time=model_event.time,
    )
    return inbox.with_extensions(replay=model_event.replay) if model_event.replay else inbox
