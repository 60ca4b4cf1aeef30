"""`--init`: start from the weights of another run; for TTS with a vocabulary that may have grown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from svae.checkpoint import Checkpoint, load_strict, open_checkpoint
from svae.config import DiTConfig, TTSTrainConfig, VAEConfig, VAETrainConfig
from svae.data.index import ShardIndex
from svae.errors import CheckpointError, DataError
from svae.models.tts.dit import DiT
from svae.models.vae.vae import SpeechVAE
from svae.recipe import from_tree, to_tree
from svae.text.phonemes import FramePhonemes, PhonemeVocabulary, open_vocabulary
from svae.text.vocabulary import Vocabulary

EMBEDDING = "text_tower.embedding.weight"
MAY_DIFFER = frozenset({"dropout", "text_length_leak", "initial_gain", "initial_logvar"})
"""Options that a network can be trained on with another value of."""


def open_start(config: TTSTrainConfig) -> Checkpoint | None:
    """Return the checkpoint that `init` names, or None.

    Raises:
        CheckpointError: it is unusable, or of a network with other sizes.
    """
    if config.init is None:
        return None
    start = open_checkpoint(Path(config.init), kind="tts")
    _check_sizes(start, "dit", DiTConfig, to_tree(config.dit))
    return start


def open_vae_start(config: VAETrainConfig) -> Checkpoint | None:
    """Return the VAE checkpoint that `init` names, or None.

    With `freeze_encoder` its decoder may be another.

    Raises:
        CheckpointError: it is unusable, or of a network with other sizes.
    """
    if config.init is None:
        return None
    start = open_checkpoint(Path(config.init), kind="vae")
    _check_sizes(
        start,
        "vae",
        VAEConfig,
        to_tree(config.vae),
        free=("decoder",) if config.freeze_encoder else (),
    )
    return start


def take_vae_weights(
    model: SpeechVAE, discriminator: nn.Module, start: Checkpoint, console: Console
) -> None:
    """Copy a start's averaged weights, and its discriminator where it is kept and of the same sizes.

    The regulator is left out where this run has none; one that the start does not have keeps its initial weights, and so
    does a decoder of other sizes.

    Raises:
        CheckpointError: damage.
    """
    weights = start.model_state()
    new_decoder = structure(start, VAEConfig)["decoder"] != to_tree(model.cfg)["decoder"]
    for part, other in (("regulator.", False), ("decoder.", new_decoder)):
        own = {k: v for k, v in model.state_dict().items() if k.startswith(part)}
        shapes = {k: v.shape for k, v in weights.items() if k.startswith(part)}
        if other or shapes != {k: v.shape for k, v in own.items()}:
            weights = {k: v for k, v in weights.items() if not k.startswith(part)} | own
    load_strict(model, weights, start.folder)
    kept = (
        start.training_state()["discriminator"]
        if (start.folder / "training" / "state.pt").is_file()
        else {}
    )
    shapes = {k: v.shape for k, v in discriminator.state_dict().items()}
    same = {k: v.shape for k, v in kept.items()} == shapes
    if same:
        load_strict(discriminator, kept, start.folder)
    console.print(
        f"Starting from {start.folder} (step {start.step}, {start.hash[:12]}…), "
        f"{'decoder of other sizes from nothing, ' if new_decoder else ''}"
        f"discriminator {'from there too' if same else 'from nothing'}",
        highlight=False,
    )


def structure(checkpoint: Checkpoint, kind: type) -> dict[str, Any]:
    """Return a checkpoint's structure, options that were added since it was written at their defaults."""
    return to_tree(from_tree(kind, checkpoint.config["model"]))


def _check_sizes(
    start: Checkpoint, section: str, kind: type, ours: dict[str, Any], *, free: tuple[str, ...] = ()
) -> None:
    theirs, free = structure(start, kind), {*MAY_DIFFER, *free}
    differing = sorted(
        k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k) and k not in free
    )
    if differing:
        lines = "\n".join(
            f"  {section}.{k}: {theirs.get(k)!r} there, {ours.get(k)!r} in the recipe"
            for k in differing
        )
        options = " ".join(f"--set {section}.{k}={theirs[k]}" for k in differing if k in theirs)
        raise CheckpointError(
            f"--init {start.folder}: a network of other sizes:\n{lines}\nPass {options}"
        )


def choose_vocabulary(
    index: ShardIndex, config: TTSTrainConfig, start: Checkpoint | None
) -> Vocabulary:
    """Return the phonemes, or the characters of the data; with a start its symbols, in their order, then those that are new.

    Raises:
        CheckpointError: the start reads the other kind of tokens.
        DataError: texts that cannot be read as phonemes.
    """
    kinds = {"phonemes": PhonemeVocabulary, "frame-phonemes": FramePhonemes}
    phonemes = config.tokens in kinds
    own = (
        kinds[config.tokens]()
        if phonemes
        else Vocabulary.from_characters(index.metadata["characters"])
    )
    if phonemes and (missing := own.unknown("".join(index.metadata["characters"]))):
        raise DataError(
            f"{index.root}: `tokens: {config.tokens}` reads English; no rule for {', '.join(map(repr, missing[:20]))}"
        )
    if start is None:
        return own
    known = open_vocabulary(start.config["vocabulary"])
    if (
        phonemes
        and type(known) is not type(own)
        or not phonemes
        and isinstance(known, PhonemeVocabulary)
    ):
        other = next((kind for kind, cls in kinds.items() if type(known) is cls), "characters")
        raise CheckpointError(f"--init {start.folder}: it reads {other}. Pass --set tokens={other}")
    if phonemes:
        return own
    return Vocabulary([*known.symbols, *(symbol for symbol in own.symbols if symbol not in known)])


@torch.no_grad()
def take_weights(
    model: DiT, start: Checkpoint, cfg: DiTConfig, vocabulary: Vocabulary, console: Console
) -> None:
    """Copy a start's averaged weights into a model; symbols that it did not know keep their initial embedding.

    Raises:
        CheckpointError: damage, or a tensor of another shape.
    """
    weights = start.model_state()
    known = open_vocabulary(start.config["vocabulary"])
    embedding, stored = model.state_dict()[EMBEDDING].clone(), weights[EMBEDDING]
    if stored.shape != (len(known) + 1, cfg.text_dim):
        raise CheckpointError(
            f"{start.folder}: {EMBEDDING} is {tuple(stored.shape)}, not one row a symbol"
        )
    embedding[0] = stored[0]  # the filler
    copied = [symbol for symbol in vocabulary.symbols if symbol in known]
    rows = {symbol: i + 1 for i, symbol in enumerate(known.symbols)}
    for i, symbol in enumerate(vocabulary.symbols, 1):
        if symbol in known:
            embedding[i] = stored[rows[symbol]]
    load_strict(model, weights | {EMBEDDING: embedding}, start.folder)
    new = [symbol for symbol in vocabulary.symbols if symbol not in known]
    text = f": {' '.join(map(repr, new[:20]))}{' …' if len(new) > 20 else ''}" if new else ""
    console.print(
        f"Starting from {start.folder} (step {start.step}, {start.hash[:12]}…)", highlight=False
    )
    console.print(
        f"Text embedding: {len(copied)} symbols copied, {len(new)} new{text}",
        highlight=False,
        markup=False,
    )
