"""JSON Schema of a cycle: `python -m services.scoring.cycle_schema` writes it to `docs/schemas/`.

Its conditions are those of `condition.json`; `x-available-in` marks the kinds for cycles.
"""

from libs.common.document_schemas import write_schema
from services.scoring.domain.cycle_spec import CycleSpec

if __name__ == "__main__":
    write_schema("cycle", CycleSpec)
