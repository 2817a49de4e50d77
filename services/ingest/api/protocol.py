"""The door's HTTP: prompt with what comes whole, patient with what does not, for as long as it may take."""

from services.ingest.api.patience import PatientProtocol
from services.ingest.api.prompt import PromptProtocol


class DoorProtocol(PatientProtocol, PromptProtocol):
    """What a connection of ingest speaks."""
