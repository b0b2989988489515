"""What stops a command. The command's tree tells it in a line, without a traceback."""


class CommandFailed(Exception):
    """A command cannot be done; the message says why, and what the operator can do about it."""
