"""docs/capabilities.md is generated from the marked tests, and each mark names an existing row."""

from tests import capabilities


def test_page_is_generated_from_marks():
    assert capabilities.PAGE.read_text() == capabilities.page(), "run: python -m tests.capabilities"


def test_every_mark_names_a_row():
    numbers = {row["row"] for row in capabilities.rows()}

    assert set(capabilities.marked_tests()) <= numbers
    assert numbers == set(range(1, 103))
