"""Speech while training: a few held-out utterances said with the averaged weights and scored by the offline judges.

The flow-matching loss hardly tells when a model begins to speak; word error rate and similarity do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from svae.audio import SPEECH_RATE, resample
from svae.config import TTSTrainConfig
from svae.data.index import ShardIndex, read_index
from svae.errors import DataError
from svae.evaluation.items import Item, held_out_list
from svae.judges.asr import Recognizer, load_asr
from svae.judges.distillmos import DISTILLMOS, DistillMOS, load_naturalness
from svae.judges.speaker import SpeakerModel, load_speaker_model
from svae.judges.wer import WordErrors, word_errors
from svae.models.representation import Representation
from svae.models.tts.dit import DiT
from svae.synthesis.durations import DurationRule
from svae.synthesis.marks import save_speech, tags
from svae.synthesis.model import TTS
from svae.text.phonemes import as_heard
from svae.text.vocabulary import Vocabulary
from svae.training.session import Session
from svae.training.tts.utterances import waveform_root

ASR, SPEAKER = "pocketsphinx", "embedded"
JUDGE_RATE = SPEECH_RATE


@dataclass
class JudgedSpeech:
    """What is said and who judges it, opened once before step 0."""

    items: list[Item]
    asr: Recognizer
    speaker: SpeakerModel
    naturalness: DistillMOS | None
    """None: not asked for."""
    representation: Representation
    vocabulary: Vocabulary
    rule: DurationRule | None
    """How durations are decided; None is the byte rule."""
    num_steps: int
    guidance: float | None
    """0 for a student, which has it inside; None: what synthesis takes of itself."""
    seed: int
    """The noise depends on it and on the text alone, so that rows of different steps and runs compare."""

    def row(self, session: Session, step: int, model: DiT) -> dict[str, float]:
        """Say every item, leave it in samples/, and return what the judges say; an item that cannot be said is named."""
        tts = TTS(model, self.representation, self.vocabulary, rule=self.rule)
        # No hash of the model: what speaks now is in no file.
        save = partial(
            save_speech, content=tags({"vae_hash": self.representation.identity}, self.seed)
        )
        errors: list[WordErrors] = []
        similarities: list[float] = []
        opinions: list[float] = []
        failed = 0
        for item in self.items:
            assert item.prompt is not None and item.prompt_text is not None
            try:
                prompt = item.prompt.load(tts.sample_rate)
                result = tts.generate(
                    item.text,
                    prompt,
                    item.prompt_text,
                    seed=self.seed,
                    num_steps=self.num_steps,
                    guidance_scale=self.guidance,
                )
                heard = resample(result.waveform.reshape(1, -1), result.sample_rate, JUDGE_RATE)[0]
                said = self.asr.transcribe([heard])[0]
                words = word_errors(as_heard(item.text, said), said)
                voices = self.speaker.embed([heard, item.prompt.load(JUDGE_RATE)])
                similarity = float(voices[0] @ voices[1])
            except Exception as error:  # of any kind: a row without this item says more than none
                session.console.print(f"[yellow]synthesis of {item.id}: {escape(str(error))}[/]")
                failed += 1
                continue
            with session.side_work(f"writing the sample {item.id}"):
                session.tracker.audio(step, item.id, result.waveform[0], result.sample_rate, save)
            errors.append(words)
            similarities.append(similarity)
            if self.naturalness is not None:
                with session.side_work("predicting naturalness"):
                    (scores,) = self.naturalness.predict([heard])
                    opinions.append(scores[DISTILLMOS])
        row: dict[str, float] = {"utterances": len(errors), "failed": failed}
        if errors:
            row["wer"] = sum(e.rate for e in errors) / len(errors)
            row["wer_corpus"] = sum(e.errors for e in errors) / sum(e.words for e in errors)
            row["similarity"] = sum(similarities) / len(similarities)
        if opinions:
            row["mos"] = sum(opinions) / len(opinions)
        return row


def items_to_say(
    console: Console, config: TTSTrainConfig, index: ShardIndex, vocabulary: Vocabulary
) -> list[Item]:
    """Return what a run says while it trains; nothing, with a note, where nothing is held out.

    Raises:
        ConfigError: the recordings of stored latents are not named.
        DataError: what is held out cannot be prompted or spelled.
    """
    root = waveform_root(config, index)
    if not read_index(root).validation:
        console.print(
            f"[yellow]Note: {escape(str(root))}: nothing is held out, so nothing is said and judged while training "
            "(trainer.synthesize_every). Run `svae prepare` with --validation.[/]"
        )
        return []
    return spoken_items(root, vocabulary, config.trainer.synthesize_utterances)


def spoken_items(root: Path, vocabulary: Vocabulary, count: int) -> list[Item]:
    """Return the first held-out utterances that the run's symbols can spell, with their prompts.

    Raises:
        DataError: there are none.
    """
    held_out = held_out_list(root).items
    items = [
        item
        for item in held_out
        if not vocabulary.unknown(vocabulary.fit(f"{item.text} {item.prompt_text}"))
    ]
    if not items:
        raise DataError(
            f"{root}: none of {len(held_out)} held-out utterances is spelled with the run's characters"
        )
    return items[:count]


def open_judged_speech(
    session: Session,
    config: TTSTrainConfig,
    index: ShardIndex,
    representation: Representation,
    vocabulary: Vocabulary,
    rule: DurationRule | None,
) -> JudgedSpeech | None:
    """Open the list and the judges; None where `trainer.synthesize_every` is 0, nothing is held out, or on ranks that only wait.

    Raises:
        ConfigError: the vocoder or a judge cannot be loaded.
        DataError: what is held out cannot be prompted or spelled.
    """
    trainer = config.trainer
    if trainer.synthesize_every == 0 or not session.world.is_main:
        return None
    items = items_to_say(session.console, config, index, vocabulary)
    if not items:
        return None
    representation.load_decoder()
    naturalness = load_naturalness(trainer.naturalness, "trainer.naturalness")
    session.console.print(
        f"Every {trainer.synthesize_every} steps {len(items)} held-out utterances are said and judged by {ASR} and the "
        f"{SPEAKER} speaker model{f' and {trainer.naturalness}' if naturalness else ''}",
        highlight=False,
    )
    return JudgedSpeech(
        items=items,
        asr=load_asr(ASR),
        speaker=load_speaker_model(SPEAKER),
        naturalness=naturalness,
        representation=representation,
        vocabulary=vocabulary,
        rule=rule,
        num_steps=trainer.synthesize_steps if config.distill is None else config.distill.steps,
        guidance=None if config.distill is None else 0.0,
        seed=trainer.seed,
    )
