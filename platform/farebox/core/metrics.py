"""What Prometheus reads at `/metrics`. No label names a tenant: series stay few and discreet."""

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, PlatformCollector
from prometheus_client import ProcessCollector as Process

REGISTRY = CollectorRegistry()
Process(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

HTTP_REQUESTS = Counter(
    "farebox_http_requests_total",
    "Requests answered, by method, route template and status.",
    ("method", "route", "status"),
    registry=REGISTRY,
)
TOKENS = Counter(
    "farebox_tokens_total",
    "Tokens settled, by model and disjoint class (input, cached_input, output).",
    ("model", "class"),
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "farebox_request_duration_seconds",
    "From the request's head to its last byte, by model.",
    ("model",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
    registry=REGISTRY,
)
FIRST_TOKEN_SECONDS = Histogram(
    "farebox_time_to_first_token_seconds",
    "From submission to the engine to the first token, by model.",
    ("model",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
UNCLOSED_DOCUMENTS = Gauge(
    "farebox_unclosed_invoices",
    "Invoices and statements of months that have ended, which this process's worker could not close.",
    registry=REGISTRY,
)
