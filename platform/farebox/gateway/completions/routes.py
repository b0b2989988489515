"""`/v1`: chat completions and completions."""

from farebox.gateway.completions.answer import admit_completion
from farebox.gateway.completions.documentation import CHAT_COMPLETION, COMPLETION
from farebox.gateway.completions.requests import ChatCompletionRequest, CompletionRequest
from farebox.gateway.completions.run import CompletionRun
from farebox.gateway.completions.writers.chat import ChatWriter
from farebox.gateway.completions.writers.completion import CompletionWriter
from farebox.gateway.endpoint import inference
from farebox.gateway.gate.gate import Visit
from farebox.gateway.gateway import Gateway
from farebox.gateway.transport.wire import Wire


@inference(
    "/chat/completions",
    ChatCompletionRequest,
    operation_id="createChatCompletion",
    summary="Create a chat completion",
    tag="Chat",
    documentation=CHAT_COMPLETION,
)
async def create_chat_completion(
    gateway: Gateway, request: ChatCompletionRequest, visit: Visit, wire: Wire
) -> CompletionRun:
    """Answer a conversation, whole or as server-sent events (`stream: true`)."""
    return await admit_completion(gateway, request, visit, wire, ChatWriter)


@inference(
    "/completions",
    CompletionRequest,
    operation_id="createCompletion",
    summary="Create a completion",
    tag="Completions",
    documentation=COMPLETION,
)
async def create_completion(
    gateway: Gateway, request: CompletionRequest, visit: Visit, wire: Wire
) -> CompletionRun:
    """Continue a text, several, or token ids."""
    return await admit_completion(gateway, request, visit, wire, CompletionWriter)
