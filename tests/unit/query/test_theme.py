"""The dark colours."""

import pytest

from orderflow.query.html import theme


def test_bootstrap_still_has_the_dark_colours_where_they_are_taken_from() -> None:
    css = theme.dark_rules(theme.BOOTSTRAP.read_text())
    assert css.startswith("@media (prefers-color-scheme:dark){:root{color-scheme:dark;")
    assert "data-bs-theme" not in css
    with pytest.raises(ValueError, match="no rules"):
        theme.dark_rules("body{color:red}")
