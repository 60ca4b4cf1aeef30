"""`--init`: start from the weights of another run; for TTS with a vocabulary that may have grown."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from svae.checkpoint import Checkpoint, load_strict, open_checkpoint
from svae.config import DiTConfig, TTSTrainConfig, VAEConfig, VAETrainConfig
from svae.data.index import ShardIndex
from svae.errors import CheckpointError, ConfigError, DataError
from svae.models.tts.dit import DiT
from svae.models.vae.vae import SpeechVAE
from svae.recipe import to_tree
from svae.text.espeak import EspeakVocabulary, espeak_language
from svae.text.languages import language_code
from svae.text.phonemes import FramePhonemes, PhonemeVocabulary, open_vocabulary
from svae.text.pinyin import PinyinVocabulary
from svae.text.vocabulary import Vocabulary

EMBEDDING = "text_tower.embedding.weight"
MAY_DIFFER = frozenset({"dropout", "text_length_leak", "initial_gain", "initial_logvar"})
"""Options that a network can be trained on with another value of."""
FIXED: dict[str, Callable[[], Vocabulary]] = {
    "phonemes": PhonemeVocabulary,
    "frame-phonemes": FramePhonemes,
    "espeak": EspeakVocabulary,
}
"""The vocabularies that are the same for all data, by the recipe's field `tokens`."""
FROM_DATA = {"characters": Vocabulary, "pinyin": PinyinVocabulary}
"""Those that have the characters of the data."""


# ----------------------------------------------------------------------------------------------- the checkpoint


def open_start(config: TTSTrainConfig) -> Checkpoint | None:
    """Return the checkpoint that `init` names, or the teacher that a student starts from, or None.

    Of a student the weights of its teacher are meant, which are what can be learned on.

    Raises:
        ConfigError: a student without a teacher.
        CheckpointError: it is unusable, or of a network with other sizes.
    """
    path, option = config.init, "--init"
    if config.distill is not None:
        path, option = config.distill.teacher, "teacher"
        if path is None:
            raise ConfigError("distill.teacher: not set; a student is made by `svae distill RUN`")
    if path is None:
        return None
    start = open_checkpoint(path, kind="tts", option=option)
    _check_sizes(start, "dit", DiTConfig, to_tree(config.dit), option=option)
    return start


def open_vae_start(config: VAETrainConfig) -> Checkpoint | None:
    """Return the VAE checkpoint that `init` names, or None.

    Raises:
        CheckpointError: it is unusable, or of a network with other sizes.
    """
    if config.init is None:
        return None
    start = open_checkpoint(Path(config.init), kind="vae", option="--init")
    # A frozen encoder makes the same latents, which another decoder can learn to read.
    free = {"decoder"} if config.freeze_encoder else set()
    _check_sizes(start, "vae", VAEConfig, to_tree(config.vae), free=free)
    return start


def structure(checkpoint: Checkpoint, kind: type) -> dict[str, Any]:
    """Return a checkpoint's structure, options that were added since it was written at their defaults."""
    return to_tree(checkpoint.section(kind))


def _check_sizes(
    start: Checkpoint,
    section: str,
    kind: type,
    ours: dict[str, Any],
    *,
    free: set[str] | None = None,
    option: str = "--init",
) -> None:
    theirs = structure(start, kind)
    compared = (theirs.keys() | ours.keys()) - MAY_DIFFER - (free or set())
    differing = [key for key in sorted(compared) if theirs.get(key) != ours.get(key)]
    if differing:
        lines = "\n".join(
            f"  {section}.{key}: {theirs.get(key)!r} there, {ours.get(key)!r} in the recipe"
            for key in differing
        )
        options = " ".join(
            f"--set {shlex.quote(f'{section}.{key}={json.dumps(theirs[key])}')}"
            for key in differing
            if key in theirs
        )
        raise CheckpointError(
            f"{option} {start.folder}: a network of other sizes:\n{lines}\nPass {options}"
        )


# ----------------------------------------------------------------------------------------------- VAE


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
    own = model.state_dict()
    new_decoder = structure(start, VAEConfig)["decoder"] != to_tree(model.cfg)["decoder"]
    for part in ("regulator.", "decoder."):
        initial = {name: value for name, value in own.items() if name.startswith(part)}
        given = {name: value for name, value in weights.items() if name.startswith(part)}
        if _shapes(given) != _shapes(initial) or (part == "decoder." and new_decoder):
            weights = {name: weights[name] for name in weights if name not in given} | initial
    load_strict(model, weights, start.folder)
    kept: dict[str, Tensor] = {}
    if (start.folder / "training" / "state.pt").is_file():
        kept = start.training_state()["discriminator"]
    same = _shapes(kept) == _shapes(discriminator.state_dict())
    if same:
        load_strict(discriminator, kept, start.folder)
    console.print(
        f"Starting from {start.folder} (step {start.step}, {start.hash[:12]}…), "
        f"{'decoder of other sizes from nothing, ' if new_decoder else ''}"
        f"discriminator {'from there too' if same else 'from nothing'}",
        highlight=False,
    )


def _shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


# ----------------------------------------------------------------------------------------------- TTS


def choose_vocabulary(
    index: ShardIndex, config: TTSTrainConfig, start: Checkpoint | None
) -> Vocabulary:
    """Return the phonemes, or the characters of the data; with a start its symbols, in their order, then those that are new.

    Raises:
        CheckpointError: the start reads the other kind of tokens.
        ConfigError: a package that reads the texts is missing, or it does not know a language of theirs.
        DataError: texts that cannot be read as phonemes.
    """
    characters = index.metadata["characters"]
    own: Vocabulary
    if config.tokens == EspeakVocabulary.tokens:
        own = _espeak(index, config)
    elif config.tokens in FIXED:
        own = FIXED[config.tokens]()
        if missing := own.unknown("".join(characters)):
            raise DataError(
                f"{index.root}: `tokens: {config.tokens}` reads English; no rule for {', '.join(map(repr, missing[:20]))}. "
                "`svae prepare … --spell-out` stores numbers and signs as words, by the language of each utterance."
            )
    else:
        own = FROM_DATA[config.tokens].from_characters(characters)
    if start is None:
        return own
    known = open_vocabulary(start.config["vocabulary"])
    if known.tokens != config.tokens:
        raise CheckpointError(
            f"--init {start.folder}: it reads {known.tokens}. Pass --set tokens={known.tokens}"
        )
    if known.tokens in FIXED:
        return own
    if config.distill is not None:
        if unread := known.unknown("".join(characters)):
            raise DataError(
                f"{index.root}: the teacher cannot read {', '.join(map(repr, unread[:20]))}; distil it on texts that it can"
            )
        return known
    new = (symbol for symbol in own.symbols if symbol not in known)
    return FROM_DATA[config.tokens]([*known.symbols, *new])


def _espeak(index: ShardIndex, config: TTSTrainConfig) -> EspeakVocabulary:
    """Return what reads the languages of the data.

    Raises:
        ConfigError: espeak-ng is not installed, or lacks one of them.
        DataError: nobody says what language an utterance is in.
    """
    languages = Counter(language_code(sample.language) for sample in index.samples)
    if (unknown := languages.pop(None, 0)) and config.data.language is None:
        raise DataError(
            f"{index.root}: {unknown} of {len(index.samples)} utterances do not say their language, which `tokens: espeak` "
            "needs. Set data.language (en, de, …), or prepare them again with --language."
        )
    named = config.data.language or max(languages, key=lambda code: (languages[code], code))
    vocabulary = EspeakVocabulary(language=named)
    for language in (named, *languages):
        espeak_language(language)
    return vocabulary


@torch.no_grad()
def take_weights(
    model: DiT, start: Checkpoint, cfg: DiTConfig, vocabulary: Vocabulary, console: Console
) -> None:
    """Copy a start's averaged weights into a model; what it did not know (symbols, where a step ends) keeps its initial weights.

    Raises:
        CheckpointError: damage, or a tensor of another shape.
    """
    weights = start.model_state()
    known = open_vocabulary(start.config["vocabulary"])
    stored = weights[EMBEDDING]
    if stored.shape != (len(known) + 1, cfg.text_dim):
        raise CheckpointError(
            f"{start.folder}: {EMBEDDING} is {tuple(stored.shape)}, not one row a symbol"
        )
    embedding = model.state_dict()[EMBEDDING].clone()
    embedding[0] = stored[0]  # row 0 is the filler, symbols begin at 1
    rows = {symbol: row for row, symbol in enumerate(known.symbols, 1)}
    new: list[str] = []
    for row, symbol in enumerate(vocabulary.symbols, 1):
        if symbol in rows:
            embedding[row] = stored[rows[symbol]]
        else:
            new.append(symbol)
    load_strict(model, weights | {EMBEDDING: embedding}, start.folder)
    console.print(
        f"Starting from {start.folder} (step {start.step}, {start.hash[:12]}…)", highlight=False
    )
    text = f"Text embedding: {len(vocabulary) - len(new)} symbols copied, {len(new)} new"
    if new:
        text += f": {' '.join(map(repr, new[:20]))}{' …' if len(new) > 20 else ''}"
    console.print(text, highlight=False, markup=False)
