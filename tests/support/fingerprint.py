"""Fingerprint of the storefront's fold: SHA-256 of every state and move, in order of contact."""

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256

from examples.storefront.mapping import calls
from libs.common.ids import WorkspaceId
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import call_from_object
from services.scoring.domain import fold
from services.scoring.domain.signal_classifier import FoldEvent
from tests.support.encoding_paths import touchpoint_of_call
from tests.support.touchpoints import shipped

ANCHOR = datetime(2026, 11, 22, tzinfo=UTC)


def occurrences() -> Iterator[tuple[str, FoldEvent]]:
    """Yield (user or device, occurrence) of the storefront's calls."""
    source = Source(WorkspaceId("default"), "storefront")
    classifier = shipped().classifier
    for call in calls(ANCHOR):
        touchpoint = touchpoint_of_call(
            call_from_object(call), RequestContext(source, 1_795_000_000_000_000, lambda: "x")
        )
        yield (
            touchpoint.user_id or touchpoint.anonymous_id or "",
            classifier.to_fold_event(touchpoint),
        )


def fingerprint() -> str:
    """Fold every contact and return the first 16 characters of the digest."""
    engine = shipped().engine
    folds = {}
    for contact, occurrence in occurrences():
        state, moves = folds.setdefault(contact, (engine.initial_state(), []))
        fold.apply_event(engine, state, occurrence, moves)
    digest = sha256()
    for contact in sorted(folds):
        digest.update(folds[contact][0].encode())
        for move in folds[contact][1]:
            digest.update(move.encode())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    print(fold.__file__)
    print(fingerprint())
