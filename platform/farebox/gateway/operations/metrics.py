"""`/metrics`: what has been counted, and what the engines and the meter say at this moment."""

import asyncio
from collections.abc import Iterator

from litestar import Response, Router, get
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from farebox.billing.reconciliation.nightly import last_run
from farebox.core.bodies import StrictRequest
from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.metrics import REGISTRY
from farebox.core.outbox import count_overdue
from farebox.gateway.gateway import Gateway

# Whoever scrapes must not wait for a Postgres that hangs.
ASK_SECONDS = 1.0

# Fields of EngineStats, with the names and words that Prometheus gets. Counters end in `_total` there.
_GAUGES = {
    "running": ("farebox_engine_running_requests", "Answers being computed."),
    "waiting": (
        "farebox_engine_waiting_requests",
        "Answers that wait for KV blocks or a place in the batch.",
    ),
    "free_blocks": ("farebox_engine_kv_blocks_free", "KV blocks that hold nothing in use."),
    "total_blocks": ("farebox_engine_kv_blocks", "KV blocks in all."),
    "tokens_per_second": ("farebox_engine_tokens_per_second", "Tokens generated per second, of late."),
}
_COUNTERS = {
    "steps": ("farebox_engine_steps", "Batches computed."),
    "failed_steps": ("farebox_engine_failed_steps", "Batches that failed."),
    "restarts": (
        "farebox_engine_restarts",
        "Times that another thread took over from one that hung or broke.",
    ),
    "preemptions": ("farebox_engine_preemptions", "Answers put back because KV blocks ran out."),
    "draft_tokens": ("farebox_engine_draft_tokens", "Tokens guessed and computed to be verified."),
    "accepted_draft_tokens": ("farebox_engine_accepted_draft_tokens", "Of these, tokens that proved right."),
    "discarded_tokens": (
        "farebox_engine_discarded_tokens",
        "Tokens computed and thrown away, wrong guesses among them: billed to nobody.",
    ),
    "busy_seconds": ("farebox_engine_busy_seconds", "Seconds the device computed."),
    "operator_seconds": ("farebox_engine_operator_seconds", "Of these, seconds charged to no request."),
}


class GatewayCollector(Collector):
    """Asks the engines and the meter when Prometheus does, so that nothing is counted twice or stale."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        yield from self._engines()
        meter = self._gateway.meter
        yield GaugeMetricFamily(
            "farebox_live_requests", "Requests admitted and not yet settled.", meter.live_requests
        )
        yield GaugeMetricFamily(
            "farebox_spooled_settlements",
            "Settlements on disk that wait for Postgres.",
            meter.spooled_settlements,
        )

    def _engines(self) -> Iterator[Metric]:
        stats = {
            served.id: served.backend.stats() for served in self._gateway.catalog.all() if not served.base
        }
        for field, (name, text) in _GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=["model"])
            for model, each in stats.items():
                _add(gauge, model, each, field)
            yield gauge
        for field, (name, text) in _COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=["model"])
            for model, each in stats.items():
                _add(counter, model, each, field)
            yield counter


def _add(family: GaugeMetricFamily | CounterMetricFamily, model: str, stats: object, field: str) -> None:
    # Encoders have no KV blocks and preempt nothing.
    if (value := getattr(stats, field, None)) is not None:
        family.add_metric([model], value)


async def _reconciliation(database: Database) -> list[Metric]:
    """What became of the last reconciliation, whichever worker did it; nothing while Postgres is away."""
    try:
        async with asyncio.timeout(ASK_SECONDS), database.transaction() as session:
            last = await last_run(session)
    except (Unavailable, TimeoutError):
        return []
    if last is None:
        return []
    return [
        GaugeMetricFamily(
            "farebox_reconciliation_differences",
            "Differences between the books that the last reconciliation found.",
            last.differences,
        ),
        GaugeMetricFamily(
            "farebox_reconciliation_timestamp_seconds",
            "When the last reconciliation ended, in Unix seconds.",
            last.finished_at.timestamp(),
        ),
    ]


async def _overdue(database: Database) -> list[Metric]:
    """What the outbox has tried for an hour or longer, by topic; nothing while Postgres is away."""
    try:
        async with asyncio.timeout(ASK_SECONDS), database.meter_transaction() as session:
            found = await count_overdue(session)
    except (Unavailable, TimeoutError):
        return []
    gauge = GaugeMetricFamily(
        "farebox_outbox_overdue_items",
        "Jobs of the worker that were tried and are not done after an hour.",
        labels=["topic"],
    )
    for topic, items in found.items():
        gauge.add_metric([topic], items)
    return [gauge]


class _Asked(Collector):
    """What Postgres was asked for just now."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


@get("/metrics", include_in_schema=False)
async def metrics(request: StrictRequest) -> Response[bytes]:
    """Prometheus's text format. Raises Unavailable while the server starts."""
    gateway = request.app.state.get("gateway")
    if gateway is None:  # at an address of its own it is asked before the server listens
        raise Unavailable("The server is starting.")
    live = CollectorRegistry()
    live.register(GatewayCollector(gateway))
    database = request.app.state.database
    asked = await asyncio.gather(_reconciliation(database), _overdue(database))
    live.register(_Asked([metric for each in asked for metric in each]))
    return Response(generate_latest(REGISTRY) + generate_latest(live), media_type=CONTENT_TYPE_LATEST)


router = Router(path="/", route_handlers=[metrics])
