"""Changes by path, and the paths in which two documents differ."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.events import order

from orderflow.actions import json_document

DOCUMENTS = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)


def test_a_field_that_nobody_knows_is_taken_out_and_an_items_member_changed() -> None:
    before = {"data": order(discont=5)}
    after = json_document.changed(before, {"data.discont": None, "data.lines.0.quantity": 3})
    assert "discont" not in after["data"]
    assert json_document.differences(before, after) == ["data.lines.0.quantity", "data.discont"]
    assert before["data"]["lines"][0]["quantity"] == 2


@given(DOCUMENTS, DOCUMENTS)
def test_two_documents_differ_somewhere_or_are_the_same(one: Any, other: Any) -> None:
    assert json_document.differences(one, one) == []
    paths = json_document.differences({"d": one}, {"d": other})
    if json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True):
        assert paths == []
    elif not any(isinstance(each, dict) for each in (one, other)):
        assert paths
