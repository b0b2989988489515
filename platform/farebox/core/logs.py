"""Structured logs: JSON lines when nobody watches, colours on a terminal."""

import logging
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

# The request that this task serves: every line that it writes names it.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")

_encode = msgspec.json.Encoder(enc_hook=str).encode


class RequestLog:
    """The access lines: `info(…)` of structlog, or, in JSON, past the copies of its keywords that it makes.

    Every request writes one, and this takes half the time.
    """

    def __init__(self) -> None:
        self.lines: structlog.BytesLogger | None = None

    def write(self, **facts: Any) -> None:
        """Write a line; `event` among the facts names it."""
        if self.lines is None:
            _log.info(**facts)
        else:
            self.lines.msg(_json_line(None, "info", facts))


_log = structlog.get_logger(__name__)
REQUEST_LOG = RequestLog()


def configure_logs(level: str = "INFO", *, as_json: bool | None = None) -> None:
    """Set up structlog, and send the standard library's loggers through it.

    Prompts, completions, secrets and whole keys are never handed to a logger: what is logged is
    ids, counts, durations and amounts.
    """
    numeric = logging.getLevelNamesMapping()[level.upper()]
    as_json = not sys.stderr.isatty() if as_json is None else as_json
    processors: list[Processor]
    factory: structlog.BytesLoggerFactory | structlog.PrintLoggerFactory
    REQUEST_LOG.lines = None
    if as_json:
        processors = [_json_line]
        factory = structlog.BytesLoggerFactory(sys.stderr.buffer)
        if numeric <= logging.INFO:
            REQUEST_LOG.lines = factory()
    else:
        # Locals hold passwords and prompts: never in a traceback.
        plain = structlog.dev.RichTracebackFormatter(show_locals=False)
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=plain)
        processors = [_note_request, structlog.processors.add_log_level, _note_time, renderer]
        factory = structlog.PrintLoggerFactory(sys.stderr)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(numeric, logging.WARNING), handlers=[_StructlogHandler()], force=True)


def _json_line(logger: Any, method: str, event: EventDict) -> bytes:
    # One processor that does it all: several cost as much again, and every request writes a line.
    _note_request(logger, method, event)
    structlog.processors.add_log_level(logger, method, event)
    _note_time(logger, method, event)
    if "exc_info" in event:
        structlog.processors.format_exc_info(logger, method, event)
    return _encode(event)


def _note_request(_: Any, __: str, event: EventDict) -> EventDict:
    if request_id := REQUEST_ID.get():
        event.setdefault("request_id", request_id)
    return event


def _note_time(_: Any, __: str, event: EventDict) -> EventDict:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    event["timestamp"] = f"{_to_the_second(seconds)}.{nanoseconds // 1000:06d}Z"
    return event


@lru_cache(maxsize=1)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class _StructlogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log: FilteringBoundLogger = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)
