"""Who may send what for whose orders: the table `[authority]` of the shop's rules.

An order's owner follows from the order id alone, so the decision needs no database: intake and validate make it by the
same function.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import permutations
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from orderflow.domain.events import INBOX
from orderflow.domain.orders import Frozen
from orderflow.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

OPERATORS: Final = "/orderflow/operators"
"""The CloudEvent source of operators' actions."""
OPERATOR_KINDS: Final = frozenset({"held", "released", "cancelled"})
"""The kinds of event that operators send, by themselves, for any order. No table takes them away: a shop that forgot an
entry could hold no order."""
ROLES: Final[dict[str, tuple[str, ...]]] = {
    "storefront": ("placed", "cancelled"),
    "payment": ("authorised", "paid", "declined", "refunded"),
    "warehouse": ("packed", "shipped", "delivered", "returned"),
}
"""The kinds of event that each sort of client sends."""
CODE: Final = "not_authorised"


def _known_kinds(kinds: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := sorted(set(kinds) - INBOX.keys()):
        text = "{kind} is no kind of event; these are: {kinds}"
        raise PydanticCustomError("kind_unknown", text, {"kind": unknown[0], "kinds": ", ".join(INBOX)})
    return kinds


Kinds = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_known_kinds)]
OwnerName = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9._-]{1,64}$")]
SourcePattern = Annotated[str, StringConstraints(strict=True, pattern=r"^[\x21-\x7e]{1,256}$")]
OrderIdPrefix = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,26}$")]
"""An order id of 64 characters has room for a prefix of 27 and a UUID."""


class Owner(Frozen):
    """Whoever orders belong to, such as one of several shops. order_ids is the prefix of the ids of its orders."""

    name: OwnerName
    order_ids: OrderIdPrefix


class Sender(Frozen):
    """What some sources may send. sources are fnmatch patterns, whose `*` also matches `/`.

    Without owners, they may send it for every order, also for an order whose id has no owner's prefix.
    """

    sources: Annotated[tuple[SourcePattern, ...], Field(min_length=1)]
    kinds: Kinds
    owners: Annotated[tuple[OwnerName, ...], Field(min_length=1)] | None = None

    def sends(self, source: str, kind: str) -> bool:
        return kind in self.kinds and any(fnmatchcase(source, pattern) for pattern in self.sources)

    def sends_for(self, owner: str | None) -> bool:
        return self.owners is None or owner in self.owners


class Authority(Frozen):
    """Without owners, all orders have one owner, which has no name. Without senders, every source may send every
    kind. With senders, a source may send what an entry allows, and nothing else."""

    owners: tuple[Owner, ...] = ()
    senders: tuple[Sender, ...] = ()

    @model_validator(mode="after")
    def _is_unambiguous(self) -> Self:
        names = self.owner_names
        if len(set(names)) < len(names):
            raise PydanticCustomError("owner_twice", "owners: two owners have the same name")
        for one, other in permutations(self.owners, 2):
            if other.order_ids.startswith(one.order_ids):
                text = "owners: the order ids of {one} and {other} cannot be told apart"
                raise PydanticCustomError("prefix_ambiguous", text, {"one": one.name, "other": other.name})
        for sender in self.senders:
            if unknown := sorted(set(sender.owners or ()) - set(names)):
                raise PydanticCustomError(
                    "owner_unknown", "senders: there is no owner {name}", {"name": unknown[0]}
                )
        return self

    @property
    def owner_names(self) -> Sequence[str]:
        return [owner.name for owner in self.owners]

    def owner_of(self, order_id: str) -> str | None:
        """None where the order id has no owner's prefix."""
        return next((owner.name for owner in self.owners if order_id.startswith(owner.order_ids)), None)

    def refusal(self, source: str, kind: str, order_id: str) -> Reason | None:
        """Why the source may not send such an event for this order; None where it may. The reason names the kind and
        the order's owner."""
        if not self.senders or (source == OPERATORS and kind in OPERATOR_KINDS):
            return None
        owner = self.owner_of(order_id)
        if any(sender.sends(source, kind) and sender.sends_for(owner) for sender in self.senders):
            return None
        return Reason(CODE, "source", f"no rule lets this source send {kind}{self._whose(owner)}")

    def prefix_for(self, source: str, owner: str | None) -> str:
        """The prefix of the id that a new order gets. owner is the one to which the client's API key is bound, None
        where the key is bound to none.

        Empty where there are no owners, and where the source places orders for none. Raises LookupError where the
        source places orders for several owners.
        """
        if not self.owners:
            return ""
        names = {owner} if owner is not None else self._owners_with_orders_of(source)
        prefixes = [each.order_ids for each in self.owners if each.name in names]
        if len(prefixes) > 1:
            raise LookupError
        return prefixes[0] if prefixes else ""

    def _owners_with_orders_of(self, source: str) -> set[str]:
        return {
            name
            for name in self.owner_names
            if not self.senders
            or any(sender.sends(source, "placed") and sender.sends_for(name) for sender in self.senders)
        }

    def _whose(self, owner: str | None) -> str:
        if not self.owners:
            return ""
        return f" for orders of {owner}" if owner else " for an order whose id has no owner's prefix"
