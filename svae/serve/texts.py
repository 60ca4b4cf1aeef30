"""Texts of requests: read, spelled out, planned, and refused where they ask for too much."""

from __future__ import annotations

from dataclasses import dataclass

from svae.errors import DataError
from svae.runtime.text_files import check_characters
from svae.serve.requests import SpeechRequest, TextRequest
from svae.synthesis.long_text import Chunk, plan_chunks
from svae.synthesis.model import TTS
from svae.synthesis.types import Prompt, Sampling
from svae.text.lexicon import Lexicon
from svae.text.sentences import Sentence, prepare_sentences


@dataclass(frozen=True)
class Limits:
    """What one request may ask for."""

    max_text: int = 4096
    """Characters, as OpenAI's interface has it."""
    max_speech_seconds: float = 900.0
    max_recording_seconds: float = 120.0
    """Of a voice; at most 30 s of it are used."""
    max_upload_bytes: int = 20 * 2**20


def read_sentences(
    tts: TTS, asked: TextRequest, limits: Limits
) -> tuple[list[Sentence], list[str]]:
    """Return the sentences of a request as they are spoken, and notes on what was changed.

    Raises:
        ConfigError: nobody can read the language.
        DataError: the text is empty, too long, or has characters that the model does not know; the lexicon is wrong.
    """
    text = asked.input
    if len(text) > limits.max_text:
        raise DataError(
            f"input: {len(text)} characters; at most {limits.max_text} are spoken at once. Send the text in parts"
        )
    check_characters(text, "input")
    if not text.strip():
        raise DataError("input: empty. Expected at least one word")
    lexicon = None
    if asked.lexicon_text is not None:
        check_characters(asked.lexicon_text, "lexicon")
        lexicon = Lexicon.parse(asked.lexicon_text, "lexicon")
    language = spoken_language(asked)
    vocabulary = tts.in_language(language).vocabulary
    sentences, notes = prepare_sentences(text, vocabulary, language=language, lexicon=lexicon)
    scale = asked.pauses
    return [Sentence(s, s.pause_after * scale, s.pause_before * scale) for s in sentences], notes


def spoken_language(asked: TextRequest) -> str | None:
    """Return the language of a text; None: nothing is spelled out."""
    return None if asked.language == "none" else asked.language


def plan_speech(tts: TTS, asked: SpeechRequest, prompt: Prompt, limits: Limits) -> list[Chunk]:
    """Return what is spoken for a request, sentence by sentence, as `svae synthesize --stream` does.

    Raises:
        ConfigError: a number is out of range.
        DataError: as `read_sentences`; the speech would be too long; nothing is said.
    """
    sentences, _ = read_sentences(tts, asked, limits)
    sampling = Sampling(
        seed=asked.seed,
        num_steps=asked.steps,
        guidance_scale=asked.guidance,
        temperature=asked.temperature,
        speed=asked.speed,
    )
    reads = tts.in_language(spoken_language(asked))
    chunks = list(plan_chunks(reads, sentences, prompt, sampling, by_sentence=True))
    seconds = 0.0
    for chunk in chunks:
        new_frames = 0 if chunk.utterance is None else chunk.frames - prompt.frames
        seconds += new_frames * tts.hop_length / tts.sample_rate
        seconds += chunk.text.pause_before + chunk.text.pause_after
    if not seconds:
        raise DataError("input: a pause alone, and `pauses` leaves none; nothing is said")
    if seconds > limits.max_speech_seconds:
        raise DataError(
            f"input: would take {seconds:.0f} s to say; at most {limits.max_speech_seconds:g} s are spoken at once. "
            "Send the text in parts, or ask for a higher speed"
        )
    return chunks
