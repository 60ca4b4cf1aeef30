"""How long a text takes in a given voice, as a whole (`DurationPredictor`) or phone by phone (`PhoneDurations`).

F5-TTS scales the prompt's duration by the ratio of UTF-8 bytes: every byte costs the same, and a silence at the ends
costs nothing, which fails for short texts. Here a small convolutional network gives each character its cost in
frames, and a constant stands for the ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 48


class DurationPredictor(nn.Module):
    """Predict the frames of a text from characters, and from a prompt by the same voice.

    With S(text) = ends + sum of the characters' costs, and a prompt of P frames,

        frames(text) = S(text) · (P / S(prompt text)) ** (P / (P + trust)),

    so that a long prompt's rate counts in full and a short one's partly.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        # Id 0 is padding, as in the DiT.
        self.embedding = nn.Embedding(vocab_size + 1, FEATURES, padding_idx=0)
        self.convs = nn.ModuleList(nn.Conv1d(FEATURES, FEATURES, 5, padding=2) for _ in range(2))
        self.cost = nn.Linear(FEATURES, 1)
        self.ends = nn.Parameter(torch.tensor(math.log(10.0)))
        self.trust = nn.Parameter(torch.tensor(math.log(40.0)))
        nn.init.zeros_(self.cost.weight)
        # 2.5 frames a character: 16 a second at 40 Hz.
        nn.init.constant_(self.cost.bias, math.log(math.expm1(2.5)))

    def nominal_frames(self, tokens: Tensor) -> Tensor:
        """Return S (B,), float: frames of each text (B, L), -1 = padding, at the average rate."""
        mask = tokens >= 0
        x = self.embedding(tokens + 1).transpose(1, 2)
        for conv in self.convs:
            x = x + F.gelu(conv(x)) * mask[:, None]
        costs = F.softplus(self.cost(x.transpose(1, 2)).squeeze(-1))
        return self.ends.exp() + (costs * mask).sum(dim=1)

    def forward(self, tokens: Tensor, prompt_tokens: Tensor, prompt_frames: Tensor) -> Tensor:
        """Return log frames (B,) of the texts (B, L), without the prompts', given prompts (B, Lp) of (B,) frames."""
        prompt_frames = prompt_frames.float()
        rate = prompt_frames.log() - self.nominal_frames(prompt_tokens).log()
        weight = prompt_frames / (prompt_frames + self.trust.exp())
        return self.nominal_frames(tokens).log() + weight * rate

    @torch.no_grad()
    def predict(
        self, tokens: Sequence[int], prompt_tokens: Sequence[int], prompt_frames: int
    ) -> float:
        """Return the frames of one text, without the prompt's."""
        device = self.cost.weight.device
        texts = [torch.tensor([ids], device=device) for ids in (tokens, prompt_tokens)]
        return float(self(*texts, torch.tensor([prompt_frames], device=device)).exp())


class PhoneDurations(nn.Module):
    """Predict how long each symbol of a text lasts, having seen how long those of the prompt did.

    The prompt and the text are one sequence, as one utterance would be; convolutions see a symbol's neighbours, and an
    average over the symbols whose durations are known tells everybody how this voice speaks. (Voicebox, arXiv
    2306.15687, fills in durations from context likewise.)
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size + 1, FEATURES, padding_idx=0)
        self.known = nn.Linear(2, FEATURES)
        self.before, self.after = (
            nn.ModuleList(nn.Conv1d(FEATURES, FEATURES, 5, padding=2) for _ in range(2))
            for _ in range(2)
        )
        self.voice = nn.Sequential(
            nn.Linear(2 * FEATURES, FEATURES), nn.GELU(), nn.Linear(FEATURES, FEATURES)
        )
        self.output = nn.Linear(FEATURES, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.constant_(self.output.bias, math.log1p(3.0))

    def forward(self, tokens: Tensor, durations: Tensor, known: Tensor) -> Tensor:
        """Return log(1 + frames) of every symbol (B, L).

        Tokens (B, L), -1 = padding; durations (B, L) in frames, read where `known` (B, L).
        """
        mask = (tokens >= 0)[:, None]
        logs = torch.where(known, durations, 0.0).log1p()
        symbols = self.embedding(tokens + 1)
        x = (symbols + self.known(torch.stack([known.float(), logs], dim=-1))).transpose(
            1, 2
        ) * mask
        for conv in self.before:
            x = x + F.gelu(conv(x)) * mask
        weight = known[:, None] / known.sum(1).clamp_min(1)[:, None, None]
        mean = (x * weight).sum(2)
        square = (x.square() * weight).sum(2)
        x = (
            x
            + self.voice(torch.cat([mean, (square - mean.square()).clamp_min(0)], dim=1))[..., None]
        ) * mask
        for conv in self.after:
            x = x + F.gelu(conv(x)) * mask
        return self.output(x.transpose(1, 2)).squeeze(-1)

    @torch.no_grad()
    def predict(self, tokens: Sequence[int], durations: Sequence[float]) -> list[float]:
        """Return the frames of each symbol of one sequence; those at its beginning, in `durations`, are known."""
        device = self.output.weight.device
        ids = torch.tensor([tokens], device=device)
        known = torch.arange(len(tokens), device=device)[None] < len(durations)
        given = torch.zeros(1, len(tokens), device=device)
        given[0, : len(durations)] = torch.tensor(durations, dtype=torch.float32)
        frames = self(ids, given, known).expm1().clamp_min(0.0)
        return torch.where(known, given, frames)[0].tolist()
