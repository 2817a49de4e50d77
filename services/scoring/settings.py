"""Settings of the scoring service."""

from pathlib import Path

from pydantic import Field

from libs.common.settings import CommonSettings


class ScoringSettings(CommonSettings):
    """Settings of scoring, beside the common ones."""

    port: int = Field(8081, validation_alias="PERIGEE_PORT")
    cycles: Path = Field(
        Path("cycles"), validation_alias="PERIGEE_CYCLES", description="folder of the cycle files"
    )
    reaction_window: str = Field(
        "",
        validation_alias="PERIGEE_REACTION_WINDOW",
        description="overrides the cycles' reaction_window, e.g. 31d",
    )
