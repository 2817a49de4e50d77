"""HTTP server of the orchestrator: services, routes, authentication and health checks."""

from collections.abc import Callable

import uvicorn
from fastapi import APIRouter

from libs.common.compilation import PUBLISHER_MODULES
from libs.common.db.api_keys import DatabaseKeyStore
from libs.common.db.outbox_quarantine import OutboxQuarantineService
from libs.common.http.app_factory import build_app
from libs.common.http.authentication import AuthenticationMiddleware
from libs.common.http.outbox_admin import operations_router
from libs.common.observability.health import HealthChecks, build_server
from services.orchestrator.api import (
    actions,
    dropoff_audiences,
    plays,
    recommendations,
    referrals,
    schemas,
    segments,
    simulations,
    statistics,
    suppressions,
)
from services.orchestrator.api.onsite import onsite_route
from services.orchestrator.api.unsubscribe import unsubscribe_route
from services.orchestrator.handlers.action_ledger import ActionLedgerService
from services.orchestrator.handlers.decision_history import DecisionHistoryService
from services.orchestrator.handlers.definitions import DefinitionService
from services.orchestrator.handlers.dropoff_audiences import DropoffAudienceService
from services.orchestrator.handlers.onsite import OnsiteService
from services.orchestrator.handlers.play_reports import PlayReportService
from services.orchestrator.handlers.play_simulations import PlaySimulationService
from services.orchestrator.handlers.plays import PlayService
from services.orchestrator.handlers.preview import PreviewService
from services.orchestrator.handlers.recommendations import RecommendationService
from services.orchestrator.handlers.referrals import ReferralService
from services.orchestrator.handlers.segments import SegmentService
from services.orchestrator.handlers.statistics import PlayStatisticsService
from services.orchestrator.handlers.suppressions import SuppressionService
from services.orchestrator.handlers.work_status import OrchestratorStatusService
from services.orchestrator.process_parts import ProcessParts
from services.orchestrator.subscriptions import api as subscriptions
from services.orchestrator.subscriptions.service import SubscriptionService

ONSITE_CONNECTIONS = 4
"""Connections for requests of pages for content."""


def build_api_server(
    parts: ProcessParts, check_progress: Callable[[], str | None]
) -> uvicorn.Server:
    """Return the server of all routes; `check_progress` returns a consumer fault, or None."""
    settings, session = parts.settings, parts.session("health")
    health = HealthChecks(
        {"database": session.check, "kafka": parts.publisher.check},
        check_progress,
        {PUBLISHER_MODULES.name: PUBLISHER_MODULES.mode()},
    )
    suppression_service = SuppressionService(parts.session("suppressions"), parts.registry)
    referral_service = ReferralService(parts.session("referrals"), parts.links, parts.clock)
    recommendation_service = RecommendationService(
        parts.session("recommendations"), parts.registry, parts.clock
    )
    onsite_service = OnsiteService(
        parts.session_pool("onsite", ONSITE_CONNECTIONS),
        parts.registry,
        settings.link_signing_keys(),
        parts.clock,
    )
    admin_app = build_app(
        "Perigee orchestrator",
        open_routes=[
            *health.routes(),
            unsubscribe_route(settings.unsubscribe_secret, suppression_service.suppress),
            referrals.referral_redirect_route(referral_service),
            onsite_route(onsite_service),
        ],
        public_routers=[recommendations.reader_router(recommendation_service)],
        admin_routers=[
            recommendations.admin_router(recommendation_service),
            dropoff_audiences.router(
                DropoffAudienceService(parts.session("dropoffs"), parts.registry)
            ),
            _subscription_router(parts),
            actions.router(ActionLedgerService(parts.session("ledger"), parts.outbox, parts.clock)),
            suppressions.router(suppression_service),
            referrals.router(referral_service),
            segments.router(SegmentService(parts.session("segments"), parts.registry, parts.clock)),
            *_operator_routers(parts),
            *_play_routers(parts),
        ],
    )
    keys = DatabaseKeyStore(parts.session("keys"), settings.admin_key, settings.service_key)
    guarded_app = AuthenticationMiddleware(admin_app, ("/admin/", "/v1/next"), keys)
    return build_server(guarded_app, settings.host, settings.port)


def _subscription_router(parts: ProcessParts) -> APIRouter:
    service = SubscriptionService(
        parts.session("subscriptions"),
        parts.webhook_client.check_url,
        parts.clock,
        parts.settings.partitions,
    )
    return subscriptions.router(service)


def _operator_routers(parts: ProcessParts) -> list[APIRouter]:
    """Return the routes of status, outbox quarantine, figures, simulations and schemas."""
    session, settings = parts.session("operations"), parts.settings
    status = OrchestratorStatusService(session, settings.kafka_bootstrap_servers)
    quarantine = OutboxQuarantineService(session, "orchestrator")
    simulation = PlaySimulationService(settings.database_url, parts.rules)
    return [
        operations_router("orchestrator", status, quarantine),
        statistics.router(PlayStatisticsService(parts.session("statistics"))),
        simulations.router(simulation),
        schemas.router(),
    ]


def _play_routers(parts: ProcessParts) -> list[APIRouter]:
    """Return the routes of plays, definitions, switches, reports and decision histories."""
    session = parts.session("plays")
    preview = PreviewService(
        parts.session("preview"), parts.registry, parts.channels, parts.links, parts.clock
    )
    return plays.routers(
        PlayService(session, parts.registry),
        DefinitionService(session, parts.registry),
        preview,
        PlayReportService(session, parts.clock, parts.settings.baseline),
        DecisionHistoryService(parts.session("why"), parts.registry),
    )
