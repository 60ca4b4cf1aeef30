"""How long a text takes in a given voice: characters weighted by what they cost, scaled by the prompt's rate.

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

    Args:
        vocab_size: symbols of the vocabulary.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size + 1, FEATURES, padding_idx=0)  # id 0 is padding, as in the DiT
        self.convs = nn.ModuleList(nn.Conv1d(FEATURES, FEATURES, 5, padding=2) for _ in range(2))
        self.cost = nn.Linear(FEATURES, 1)
        self.ends = nn.Parameter(torch.tensor(math.log(10.0)))
        self.trust = nn.Parameter(torch.tensor(math.log(40.0)))
        nn.init.zeros_(self.cost.weight)
        nn.init.constant_(self.cost.bias, math.log(math.expm1(2.5)))  # 2.5 frames a character: 16 a second at 40 Hz

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
    def predict(self, tokens: Sequence[int], prompt_tokens: Sequence[int], prompt_frames: int) -> float:
        """Return the frames of one text, without the prompt's."""
        device = self.cost.weight.device
        texts = [torch.tensor([ids], device=device) for ids in (tokens, prompt_tokens)]
        return float(self(*texts, torch.tensor([prompt_frames], device=device)).exp())
