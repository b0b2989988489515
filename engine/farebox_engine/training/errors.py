"""What stops a training run before it starts."""

from __future__ import annotations


class TrainingError(Exception):
    """The run cannot start or go on; the message is one sentence for whoever typed the command."""
