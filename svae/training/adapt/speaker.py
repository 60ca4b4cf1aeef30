"""Speaks held-out texts while an adapter is trained, and knows which point was the best."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from svae.checkpoint import mark_best
from svae.config import AdaptConfig
from svae.data.index import ShardIndex
from svae.models.tts.dit import DiT
from svae.runtime.distributed import World
from svae.runtime.tracking import stored_rows
from svae.synthesis.model import TTS
from svae.synthesis.types import OWN, STUDENT, Sampling
from svae.synthesis.voices import OWN_VOICE, read_voice
from svae.training.adapt.base import Base
from svae.training.adapt.data import DataFolders
from svae.training.adapt.held_out import HeldOut, open_held_out, open_judges, score
from svae.training.adapt.prompt import choose_prompt, keep_prompt
from svae.training.session import Session
from svae.training.tts.lora import AdapterState
from svae.training.watch import log_row

SYNTHESIS = "synthesis"
"""The rows of metrics.jsonl with what the judges say."""


TELLS = 0.02
"""Of the score: one word of fifty."""


class Clock:
    """How long the command has run, all its sessions together."""

    def __init__(self, minutes: float) -> None:
        self.limit = 60 * minutes
        self.before = 0.0
        self.slowest = 0.0
        """Seconds of the slowest judgement, for which time must be left."""
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self.before + time.monotonic() - self._began

    @property
    def is_up(self) -> bool:
        """Whether only the last judgement still fits."""
        return self.seconds + self.slowest >= self.limit


class Speaker:
    """Says the held-out texts while the adapter is trained, and knows which point was the best."""

    def __init__(
        self,
        session: Session,
        config: AdaptConfig,
        base: Base,
        folders: DataFolders,
        waveforms: ShardIndex,
        index: ShardIndex,
        world: World,
        clock: Clock,
        consent: str | None,
    ) -> None:
        self.session, self.config, self.base, self.clock = session, config, base, clock
        device = str(world.device)
        base.representation.load_decoder()
        self.rule = base.rule(device)
        self.identity = {
            name: value
            for name in (*OWN, STUDENT, "max_seconds")
            if (value := base.checkpoint.config.get(name)) is not None
        } | {"vae_hash": base.representation.identity}
        judges = open_judges(config.judges, device)
        usable = {sample.key for sample in index.samples}
        self.held_out: HeldOut = open_held_out(
            waveforms, [s for s in waveforms.validation if s.key in usable], judges
        )
        # What the times leave out is no prompt either.
        training = [sample for sample in waveforms.train if sample.key in usable]
        self.tts = self._tts(None)
        if not folders.prompt.is_file():
            chosen = choose_prompt(waveforms, training, self.tts, judges)
            keep_prompt(folders.prompt, waveforms, chosen, self.tts, session.console, consent)
        self.voice = read_voice(folders.prompt, OWN_VOICE, self.tts, session.console)
        session.tracker.begin()  # what was judged after the checkpoint is no longer in it
        self.rows = judged_rows(session.run)

    def _tts(self, network: DiT | None) -> TTS:
        if network is None:
            network = DiT(
                self.config.dit, len(self.base.vocabulary), self.base.representation.latent_dim
            )
        return TTS(
            network, self.base.representation, self.base.vocabulary, self.identity, self.rule
        )

    def judge_now(self, state: AdapterState) -> None:
        """Judge the point where training begins or goes on, where that is due and was not done.

        Other points are not: which is the best must not depend on where a run was interrupted.
        """
        if not self.rows:
            self.session.tracker.log(0, "recordings", self.held_out.originals())
        due = state.step % self.config.trainer.synthesize_every == 0
        if due and state.step not in self.rows:
            log_row(self.session, state, SYNTHESIS, self.row(state))

    def row(self, state: AdapterState) -> dict[str, float]:
        """Return what the judges say of a point, and mark it where it is the best; a failure is a note."""
        began = time.monotonic()
        row: dict[str, float] = {}
        with self.session.side_work("speaking and judging"):
            tts = self._tts(state.averaged())
            sampling = Sampling(
                seed=self.config.trainer.seed, num_steps=self.config.trainer.synthesize_steps
            )
            row = self.held_out.said(tts, self.voice, sampling, self.session, state.step)
            self.rows[state.step] = row
            if best_step(self.rows) == state.step:
                mark_best(self.session.run, state.step)
        self.clock.slowest = max(self.clock.slowest, time.monotonic() - began)
        return row

    def enough(self) -> bool:
        """Return whether the time is up, or nothing has become better for long."""
        if self.clock.is_up:
            return True
        if not self.rows:
            return False
        best = best_step(self.rows)
        return sum(step > best for step in self.rows) >= self.config.patience


def judged_rows(run: Path) -> dict[int, dict[str, float]]:
    """Return what the judges said of each point of a run, by its step."""
    return {row["step"]: row for row in rows_of(run) if row["split"] == SYNTHESIS}


def rows_of(run: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in stored_rows(run)]


def best_step(rows: dict[int, dict[str, float]]) -> int:
    """Return the last step that is as good as the best one, as far as the judges can tell; the start only where none is better.

    A few held-out texts tell no difference below `TELLS`, and what was learned for longer is nearer to the person.
    """
    highest = max(score(row) for row in rows.values())
    first = min(step for step, row in rows.items() if score(row) == highest)
    if first == 0:
        return 0
    return max(step for step, row in rows.items() if step and score(row) >= highest - TELLS)
