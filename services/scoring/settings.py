"""Settings of scoring."""

from pathlib import Path

from pydantic import Field

from libs.common.settings import CommonSettings


class ScoringSettings(CommonSettings):
    """What scoring needs beside the common settings."""

    port: int = Field(8081, validation_alias="PERIGEE_PORT")
    cycles: Path = Field(
        Path("cycles"), validation_alias="PERIGEE_CYCLES", description="folder of the cycle files"
    )
    reaction_window: str = Field(
        "",
        validation_alias="PERIGEE_REACTION_WINDOW",
        description="overrides the cycles' reaction_window, e.g. 31d",
    )
