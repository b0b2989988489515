"""What can go wrong in the engine, each with one sentence that says what and how to mend it.

EngineError
├── LoadError       a checkpoint folder that cannot be served
│   └── CacheShortage   one whose cache does not fit beside those of others
├── RequestError    a request that this model cannot run; ``param`` names the field at fault
├── ComputeError    a step that failed, or whose results are not numbers
├── TemplateError   a chat template that fails, or that refuses the messages
└── ClosedError     a request to an engine that has been closed or was never started
"""


class EngineError(Exception):
    """Anything the engine raises on purpose."""


class LoadError(EngineError):
    """The checkpoint folder cannot be served."""


class CacheShortage(LoadError):
    """A model's KV cache does not fit beside those of others. `needed` are the bytes of one context."""

    def __init__(self, needed: int, left: int) -> None:
        super().__init__(f"The cache of one context needs {needed} bytes, and {left} are left.")
        self.needed = needed


class RequestError(EngineError):
    """The request cannot run on this model."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class ComputeError(EngineError):
    """The model failed while computing the request."""


class TemplateError(EngineError):
    """The chat template failed, ran past its bounds, or refused these messages."""


class ClosedError(EngineError):
    """The engine is not running."""
