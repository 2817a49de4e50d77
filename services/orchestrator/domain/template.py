"""Message templates: Liquid within limits. A missing variable is an error, never a blank in a mail."""

from typing import Annotated, Any

from liquid import Environment, FalsyStrictUndefined
from liquid.exceptions import LiquidError
from pydantic import AfterValidator

from libs.common.errors import InvalidMessage


class _Limited(Environment):
    loop_iteration_limit = 1_000
    output_stream_limit = 200_000
    local_namespace_limit = 10_000


_text = _Limited(undefined=FalsyStrictUndefined)
_html = _Limited(undefined=FalsyStrictUndefined, autoescape=True)


def _compiles(source: str) -> str:
    try:
        _text.from_string(source)
    except LiquidError as error:
        raise ValueError(f"not a Liquid template: {error}") from None
    return source


Template = Annotated[str, AfterValidator(_compiles)]


def render(source: str, context: dict[str, Any], *, html: bool = False) -> str:
    """Render a template. Raises InvalidMessage `template` naming what is missing or what limit was hit."""
    try:
        return (_html if html else _text).from_string(source).render(**context)
    except LiquidError as error:
        raise InvalidMessage("template", str(error)) from None
