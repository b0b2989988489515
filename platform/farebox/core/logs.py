"""Structured logs: JSON lines when nobody watches, colours on a terminal."""

import logging
import sys

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger, Processor

_encode = msgspec.json.Encoder(enc_hook=str).encode


def configure_logs(level: str = "INFO", *, as_json: bool | None = None) -> None:
    """Set up structlog, and send the standard library's loggers through it.

    Prompts, completions, secrets and whole keys are never handed to a logger: what is logged is
    ids, counts, durations and amounts.
    """
    numeric = logging.getLevelNamesMapping()[level.upper()]
    as_json = not sys.stderr.isatty() if as_json is None else as_json
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_serialize)]
        factory: structlog.BytesLoggerFactory | structlog.PrintLoggerFactory = structlog.BytesLoggerFactory(
            sys.stderr.buffer
        )
    else:
        # Locals hold passwords and prompts: never in a traceback.
        plain = structlog.dev.RichTracebackFormatter(show_locals=False)
        processors.append(structlog.dev.ConsoleRenderer(exception_formatter=plain))
        factory = structlog.PrintLoggerFactory(sys.stderr)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(numeric, logging.WARNING), handlers=[_StructlogHandler()], force=True)


def _serialize(event: object, **_: object) -> bytes:
    return _encode(event)


class _StructlogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log: FilteringBoundLogger = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)
