"""Whether a grammar compiles in time, found out where it can be stopped: in a process of its own.

No limit of llguidance (1.9) bounds the search for what an intersection of regular expressions matches, and
a thread cannot be stopped. See `trial` for the other end.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

TRIAL_SECONDS = 1.0
TRIAL_MEMORY_BYTES = 2 << 30
KEPT_VERDICTS = 4096
# A machine too busy for a good grammar is so for a while only.
REFUSED_SECONDS = 60.0

_SCRIPT = Path(__file__).with_name("trial.py")


class TooSlowError(Exception):
    """The grammar took too much time or memory to compile."""


class GrammarGuard:
    """Compiles grammars on trial, one at a time; safe for use from several threads.

    The process begins with the first trial, and a new one after each that it did not survive.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        special: Sequence[int],
        end_tokens: Sequence[int],
        limits: Mapping[str, int],
        *,
        seconds: float = TRIAL_SECONDS,
        memory_bytes: int = TRIAL_MEMORY_BYTES,
        refused_seconds: float = REFUSED_SECONDS,
        kept_verdicts: int = KEPT_VERDICTS,
    ) -> None:
        """`limits` are llguidance's. `seconds` is the wall clock's, for each trial.

        For `refused_seconds` a source that failed is not tried again; the last `kept_verdicts` are kept.
        """
        self._setup = {
            "tokens": [token.decode("latin-1") for token in tokens],
            "special": list(special),
            "end_tokens": list(end_tokens),
            "limits": dict(limits),
            "seconds": seconds,
            "memory_bytes": memory_bytes,
        }
        self._refused_seconds = refused_seconds
        self._kept_verdicts = kept_verdicts
        self._lock = threading.Lock()
        self._process: _Process | None = None
        # By the source's SHA-256, in the order of trials: when it failed (monotonic), None if it passed.
        self._tried: dict[bytes, float | None] = {}

    def check(self, source: str) -> None:
        """Return once `source` is known to compile in time, or to be refused in time.

        Raises:
            TooSlowError: it is not, or was not a moment ago.
        """
        digest = hashlib.sha256(source.encode()).digest()
        # Without the lock at first: what is known need not wait for another's trial.
        passed = self._recall(digest)
        if passed is None:
            with self._lock:
                passed = self._recall(digest)
                if passed is None:
                    passed = self._survives(source)
                    self._note(digest, passed)
        if not passed:
            raise TooSlowError

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._process is not None:
                self._process.end()
                self._process = None

    def _recall(self, digest: bytes) -> bool | None:
        """Whether it passed; None if it is to be tried."""
        failed_at = self._tried.get(digest, -math.inf)
        if failed_at is None:
            return True
        return False if time.monotonic() < failed_at + self._refused_seconds else None

    def _note(self, digest: bytes, passed: bool) -> None:
        self._tried.pop(digest, None)
        while len(self._tried) >= self._kept_verdicts:
            del self._tried[next(iter(self._tried))]
        self._tried[digest] = None if passed else time.monotonic()

    def _survives(self, source: str) -> bool:
        if self._process is None:
            self._process = _Process(self._setup)
        if self._process.answers(source):
            return True
        self._process.end()
        self._process = None
        return False


class _Process:
    """The other process, ended with this object at the latest. It ends by itself when this process does."""

    def __init__(self, setup: Mapping[str, object]) -> None:
        # -P: the script's folder is no place to import from. Ctrl-C is not meant for a session of its own.
        process = subprocess.Popen(  # noqa: S603  our own script
            [sys.executable, "-P", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.end = weakref.finalize(self, _end, process)
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("The process was started without pipes.")
        self._stdin: IO[bytes] = process.stdin
        self._stdout: IO[bytes] = process.stdout
        if not self.answers(setup):
            self.end()
            raise RuntimeError("The process that tries grammars did not start.")

    def answers(self, question: object) -> bool:
        """Whether it lives through what it is given."""
        try:
            self._stdin.write(json.dumps(question).encode() + b"\n")
            self._stdin.flush()
        except BrokenPipeError:
            return False
        return bool(self._stdout.readline())


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()
