"""How a model marks reasoning and calls of tools in its text, and what reads them out of it."""

from farebox_engine.tokenization.answer_format import (
    CLOSE_CALL,
    CLOSE_REASONING,
    OPEN_CALL,
    OPEN_REASONING,
    WHITE_SPACE,
    AnswerFormat,
)
from farebox_engine.tokenization.answer_parser import AnswerParser, Content, Part, Reasoning, ToolCall
from farebox_engine.tokenization.calls.xml_calls import outline

__all__ = [
    "CLOSE_CALL",
    "CLOSE_REASONING",
    "OPEN_CALL",
    "OPEN_REASONING",
    "WHITE_SPACE",
    "AnswerFormat",
    "AnswerParser",
    "Content",
    "Part",
    "Reasoning",
    "ToolCall",
    "outline",
]
