"""The step of an encoder-decoder engine, free of threads and event loops."""

from __future__ import annotations

import time

from farebox_engine.outputs import EngineStats, FinishReason
from farebox_engine.scheduling.sequence import Sequence, SequenceOutput
from farebox_engine.seq2seq.accounting import Seq2SeqAccounting
from farebox_engine.seq2seq.decoding import Decoding
from farebox_engine.seq2seq.output_processor import Seq2SeqOutputProcessor
from farebox_engine.seq2seq.runner import Decoded, Encoded, Seq2SeqRunner
from farebox_engine.seq2seq.scheduler import Seq2SeqScheduler
from farebox_engine.serving.attempts import FAILED, Attempts
from farebox_engine.serving.bisection import Computed
from farebox_engine.serving.fence import Fence
from farebox_engine.serving.runner_slot import RunnerSlot


class Seq2SeqCore:
    """Encodes who is new, decodes who is there, one `step` at a time: a `core_protocol.Core`."""

    def __init__(
        self, scheduler: Seq2SeqScheduler, slot: RunnerSlot[Seq2SeqRunner], accounting: Seq2SeqAccounting
    ) -> None:
        self._scheduler = scheduler
        self._slot = slot
        self._accounting = accounting
        self._attempts: Attempts[Decoding] = Attempts(accounting.ledger, scheduler.limit)
        self._processor = Seq2SeqOutputProcessor(scheduler)
        self._steps = 0
        self._prompt_tokens = 0

    @property
    def fence(self) -> Fence[Decoding]:
        return self._attempts.fence

    @property
    def idle(self) -> bool:
        return self._scheduler.idle

    @property
    def ready(self) -> bool:
        """Whether there is a cache; not while a new one is being built, nor after that failed."""
        return self._slot.ready

    def add(self, sequence: Sequence) -> None:
        self._scheduler.add(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence, wherever it is, and free its blocks; nothing if it has ended."""
        if sequence in self._scheduler:
            self._processor.end(sequence, FinishReason.CANCELLED)

    def note_served(self, _: Sequence) -> None:
        """It keeps nothing for others."""

    def step(self) -> None:
        """Encode the sources there is room for, then compute one token for every hypothesis.

        Raises:
            Abandoned: this thread was given up meanwhile and must leave the core alone.
        """
        if admitted := self._admit():
            encoded = self._attempts.run(self._slot.runner.encode, admitted, tokens=_source_length)
            self._settle_encoding(encoded)
        if decodings := self._scheduler.schedule():
            decoded = self._attempts.run(self._slot.runner.decode, decodings)
            self._settle_decoding(decoded)

    def collect(self) -> list[SequenceOutput]:
        """What there is for the sequences since the last call."""
        return self._processor.collect()

    def recover(self, error: str) -> None:
        """See `core_protocol.Core`. What the cache holds is lost: sources and targets are computed again."""
        for sequence in self._attempts.take_over(
            item=lambda decoding: decoding.sequence,
            present=self._scheduler.__contains__,
            running=[each.sequence for each in self._scheduler.decodings()],
        ):
            self._processor.end(sequence, FinishReason.ERROR, error)
        self._scheduler.requeue()

    def rebuild(self) -> None:
        """Go on with a new cache; see `RunnerSlot.rebuild`."""
        self._scheduler.use(self._slot.rebuild(self.fence))

    def end_all(self, error: str) -> None:
        """End every sequence, running or waiting."""
        for sequence in self._scheduler.sequences():
            self._processor.end(sequence, FinishReason.ERROR, error)

    def stats(self) -> EngineStats:
        """A snapshot; safe to take from another thread."""
        ledger = self._accounting.ledger
        return EngineStats(
            running=self._scheduler.running,
            waiting=self._scheduler.waiting,
            free_blocks=self._slot.pool.free,
            total_blocks=self._slot.pool.num_blocks,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=0,
            completion_tokens=self._processor.completion_tokens,
            preemptions=0,
            failed_steps=self._attempts.failed_steps,
            busy_seconds=ledger.busy_ns / 1e9,
            operator_seconds=ledger.operator_ns / 1e9,
            tokens_per_second=self._processor.rate.per_second(time.perf_counter()),
        )

    def _admit(self) -> list[Decoding]:
        admitted = self._scheduler.admit()
        now = time.perf_counter()
        for each in admitted:
            if each.sequence.scheduled_at is None:
                each.sequence.scheduled_at = now
                self._prompt_tokens += each.source_length
        return admitted

    def _settle_encoding(self, encoded: Computed[Decoding, Encoded]) -> None:
        for result in encoded.results:
            self._accounting.charge_encoding(result.decodings, result.busy_ns)
            for each in result.decodings:
                each.encoded = True
        for each in encoded.failed:
            self._discard(each, FAILED)

    def _settle_decoding(self, decoded: Computed[Decoding, Decoded]) -> None:
        """Hand out what was computed, and only then touch the device again, for what came out wrong."""
        self._steps += 1
        broken = [(each, FAILED) for each in decoded.failed]
        for result in decoded.results:
            self._accounting.charge_decoding([each for each, _ in result.next_tokens], result.busy_ns)
            for each, found in result.next_tokens:
                if error := self._processor.process(each, found):
                    broken.append((each, error))
        for each, error in broken:
            self._discard(each, error)

    def _discard(self, decoding: Decoding, error: str) -> None:
        """End a request whose blocks may hold rubbish, and see to it that nobody reads it."""
        blocks = {*decoding.source_blocks, *(block for row in decoding.rows for block in row.blocks)}
        if blocks:
            with self.fence.guard([decoding]):
                self._slot.runner.clear(sorted(blocks))
        self._processor.end(decoding.sequence, FinishReason.ERROR, error)


def _source_length(decoding: Decoding) -> int:
    return decoding.source_length
