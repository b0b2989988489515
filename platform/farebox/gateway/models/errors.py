"""What backends raise; each message is a sentence for whoever made the mistake.

RequestError   a request that this model cannot run; `param` names the field at fault
TemplateError  a chat template that fails, or that refuses the messages
LoadError      a checkpoint folder that cannot be served
ComputeError   a step that failed
ClosedError    a request to a backend that has been closed or was never started
"""

from farebox_engine.errors import ClosedError, ComputeError, LoadError, RequestError, TemplateError

__all__ = ["ClosedError", "ComputeError", "LoadError", "RequestError", "TemplateError"]
