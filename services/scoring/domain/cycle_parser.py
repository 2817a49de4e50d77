"""A cycle's document, read into its specification; every fault with line, column and place."""

from libs.common.documents import DocumentFault, format_fault, parse_document
from libs.common.errors import ConfigurationError
from services.scoring.domain.cycle_compiler import compile_cycle
from services.scoring.domain.cycle_spec import CycleSpec


def parse_cycle_spec(text: str, where: str) -> CycleSpec:
    """Return the specification of a cycle's YAML document; every name in it refers to something.

    Raises ConfigurationError with one line per fault: `where:line:column: place: reason`.
    """
    spec = parse_document(CycleSpec, text, where)
    try:
        compile_cycle(spec)
    except DocumentFault as fault:
        raise ConfigurationError(format_fault(text, where, fault.place, fault.reason)) from None
    return spec
