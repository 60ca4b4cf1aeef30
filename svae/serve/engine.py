"""The one thread that speaks for all requests, chunk by chunk in turn, in batches where the device gains by them.

A request has a place from its admission until all of it is spoken or its client is gone; how many places there are is
fixed. Speech waits in memory for whoever reads slowly, so that nobody else does.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from svae.audio import pcm16
from svae.synthesis.long_text import SPEECH_SCALE, Chunk, ChunkJoiner, SpokenChunk, speak_chunks
from svae.synthesis.model import TTS
from svae.synthesis.subtitles import WordTimes
from svae.synthesis.types import Utterance

MAX_UNREAD_BYTES = 256 * 2**20
"""Speech that waits for slow clients, of all together; beyond it nobody is admitted."""
Piece = np.ndarray | Exception | None
"""Samples (S,), int16; why there will be none; None: the end."""


class Busy(Exception):
    """There is no place; `retry_after` says in how many seconds there may be one."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class Job:
    """A request that has a place."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.admitted = time.perf_counter()
        self.pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self.chunks: deque[Chunk] = deque()
        """What is still to be spoken."""
        self.joined = 0
        """Samples that are complete."""
        self.unread = 0
        """Bytes of speech that its client has not taken."""
        self.leaves_whole = False
        """Whether nothing is sent before all is spoken: then all of it is unread until the answer is over."""
        self.has_place = True
        self.is_gone = False

    def plan(
        self,
        tts: TTS,
        chunks: Iterable[Chunk],
        joiner: ChunkJoiner,
        word_times: WordTimes | None = None,
        *,
        early: bool = False,
        leaves_whole: bool = False,
    ) -> None:
        """Say what is to be spoken, by which model, and what gathers the times of its words.

        `early`: the first chunk leaves as it is decoded.
        """
        self.tts, self.joiner, self.word_times, self.early = tts, joiner, word_times, early
        self.leaves_whole = leaves_whole
        self.chunks.extend(chunks)

    @property
    def in_pieces(self) -> Utterance | None:
        """What is spoken next, where it leaves as it is decoded."""
        return self.chunks[0].utterance if self.early and not self.joined else None

    def join(self, spoken: SpokenChunk) -> Tensor:
        """Return what is complete with a chunk (S,); its words are timed before."""
        report = spoken.report
        if self.word_times is not None:
            place = self.joined + self.joiner.samples_before(report.pause_before)
            self.word_times.add(report.text, spoken.waveform, place / self.joiner.sample_rate)
        samples = self.joiner.join(spoken)
        self.joined += len(samples)
        return samples

    def join_pieces(self, pieces: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield what is complete with each piece of the first chunk; its words are timed at its end."""
        text, gathered = self.chunks[0].text, list[Tensor]()

        def kept() -> Iterator[Tensor]:
            for piece in pieces:
                gathered.append(piece)
                yield piece

        for samples in self.joiner.join_pieces(text, kept()):
            self.joined += len(samples)
            yield samples
        if self.word_times is not None:
            self.word_times.add(text, torch.cat(gathered), text.pause_before)


class Engine:
    """Gives places to requests and speaks them.

    Args:
        places: how many requests are waiting or spoken at most.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.taken = 0
        self.unread = 0
        self.job_seconds = 1.0
        """How long requests have had their places lately."""
        self._changed = threading.Condition()
        self._turns: deque[Job] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="svae-engine", daemon=True)
        self._thread.start()

    def admit(self) -> Job:
        """Return a job with a place; call it in the event loop. Raises Busy where there is none."""
        with self._changed:
            if self.taken >= self.places or self.unread > MAX_UNREAD_BYTES or self._closing:
                raise Busy(max(1, min(60, math.ceil(self.job_seconds))))
            self.taken += 1
        return Job(asyncio.get_running_loop())

    def speak(self, job: Job) -> None:
        """Let a planned job take its turns."""
        with self._changed:
            if not job.is_gone:
                self._turns.append(job)
                self._changed.notify()

    async def next_piece(self, job: Job) -> np.ndarray | None:
        """Wait for a job's next samples; None: that was all. Raises what kept it from being spoken."""
        piece = await job.pieces.get()
        if isinstance(piece, Exception):
            raise piece
        if piece is not None and not job.leaves_whole:
            self._count(job, -piece.nbytes)
        return piece

    def drop(self, job: Job) -> None:
        """Forget a job: its client is gone, or has everything."""
        with self._changed:
            job.is_gone = True
            if job in self._turns:
                self._turns.remove(job)
            self.unread -= job.unread
            job.unread = 0
            self._free(job)

    def close(self) -> None:
        """Speak what was begun, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    # ------------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._turns or self._closing)
                if not self._turns:
                    return
                jobs = self._take()
            if jobs[0].in_pieces is not None:
                self._deliver_in_pieces(jobs[0], jobs[0].in_pieces)
            else:
                for job, spoken in zip(jobs, _speak(jobs[0].tts, jobs), strict=True):
                    self._deliver(job, spoken)
            with self._changed:
                self._turns.extend(job for job in jobs if job.chunks and not job.is_gone)

    def _take(self) -> list[Job]:
        """Take those off the queue whose next chunks go through the network together; the first one is among them."""
        first = self._turns.popleft()
        jobs, longest = [first], first.chunks[0].frames
        if first.in_pieces is not None:
            return jobs
        for job in list(self._turns):
            if job.tts is not first.tts or job.in_pieces is not None:
                continue
            longest_then = max(longest, job.chunks[0].frames)
            if longest_then * (len(jobs) + 1) > first.tts.batch_frames:
                break
            self._turns.remove(job)
            jobs.append(job)
            longest = longest_then
        return jobs

    def _deliver(self, job: Job, spoken: SpokenChunk | Exception) -> None:
        job.chunks.popleft()
        try:
            if isinstance(spoken, Exception):
                raise spoken
            samples = job.join(spoken)
            if not job.chunks:
                rest = job.joiner.rest()
                self._give(job, _samples(samples), _samples(rest), None)
            else:
                self._give(job, _samples(samples))
        except Exception as error:  # one request's, whatever it is; the others are spoken
            job.chunks.clear()
            self._give(job, error)

    def _deliver_in_pieces(self, job: Job, utterance: Utterance) -> None:
        try:
            for samples in job.join_pieces(job.tts.speak_in_pieces(utterance)):
                if job.is_gone:
                    break
                self._give(job, _samples(samples))
            job.chunks.popleft()
            if not job.chunks:
                self._give(job, _samples(job.joiner.rest()), None)
        except Exception as error:  # as above
            job.chunks.clear()
            self._give(job, error)

    def _give(self, job: Job, *pieces: Piece) -> None:
        """Put pieces where the job's client takes them from."""
        if not job.chunks:  # first: whoever has all and still has a place counts as gone
            with self._changed:
                self._free(job)
        for piece in pieces:
            if isinstance(piece, np.ndarray):
                if not len(piece):
                    continue
                self._count(job, piece.nbytes)
            if not job.loop.is_closed():
                job.loop.call_soon_threadsafe(job.pieces.put_nowait, piece)

    def _count(self, job: Job, change: int) -> None:
        with self._changed:
            if not job.is_gone:
                job.unread += change
                self.unread += change

    def _free(self, job: Job) -> None:
        if job.has_place:
            job.has_place = False
            self.taken -= 1
            self.job_seconds += 0.2 * (time.perf_counter() - job.admitted - self.job_seconds)


def _samples(waveform: Tensor) -> np.ndarray:
    """Return a waveform as the files of `svae synthesize` hold it."""
    return pcm16(waveform, full_scale=SPEECH_SCALE).numpy()


def _speak(tts: TTS, jobs: list[Job]) -> list[SpokenChunk | Exception]:
    """Speak the next chunk of each job; where that fails for all together, each by itself."""
    try:
        return list(speak_chunks(tts, [job.chunks[0] for job in jobs]))
    except Exception as error:
        if len(jobs) == 1:
            return [error]
        return [_speak(tts, [job])[0] for job in jobs]
