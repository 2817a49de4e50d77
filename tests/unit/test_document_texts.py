"""Texts that are no valid YAML are refused with a reason, whatever their characters."""

import pytest

from libs.common.documents import parse_document
from libs.common.errors import ConfigurationError
from services.orchestrator.domain.play import Play


@pytest.mark.parametrize(
    "text",
    ["v\U000217f1\U0010f70e\U000dc282\t\U000ae9c6", "\ud800", "a: 2001-99-99", "[" * 5_000, "\x07"],
)
def test_unusual_text_is_refused(text):
    with pytest.raises(ConfigurationError, match="^text:"):
        parse_document(Play, text, "text")
