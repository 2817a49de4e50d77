"""`perigee demo`: everything started, the storefront's touchpoints sent, the outcome shown."""

import sys
from typing import Annotated

import typer

from cli.commands.instance import ScoringInstances, interrupt_on_signals
from cli.terminal import Json, current_stack, one_line_errors, print_progress
from libs.common.errors import PerigeeError


def demo(
    stop: Annotated[bool, typer.Option("--exit", help="Stop everything at the end.")] = False,
    as_json: Json = False,
    scoring: ScoringInstances = None,
    anchor: Annotated[
        str | None, typer.Option(help="Instant of the last event, RFC 3339; kept.")
    ] = None,
) -> None:
    """Start everything, send the storefront's touchpoints, show the outcome."""
    from cli.demo import run_demo

    with one_line_errors():
        stack = current_stack()
        interrupt_on_signals()
        try:
            run_demo(stack, as_json=as_json, scoring=scoring, anchor=anchor, report=print_progress)
            if stop:
                stack.down(print_progress)
        except KeyboardInterrupt:
            stack.down(print_progress)
            sys.exit(130)
        except PerigeeError:
            if stop:
                stack.down(print_progress)
            raise
