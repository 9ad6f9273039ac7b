"""Tables as text."""

from p2d.evaluate.tables import table_text


def test_columns_are_as_wide_as_their_widest_cell_and_rows_may_end_early():
    assert table_text(("name", "value", ""), [("a long one", "1"), ("b", "12", "last")]).splitlines() == [
        "name        value",
        "a long one  1",
        "b           12     last",
    ]
