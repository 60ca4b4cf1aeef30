"""Which utterances a training can use."""

from __future__ import annotations

from collections import Counter

from svae.data.index import ShardIndex
from svae.data.samples import Samples
from svae.errors import DataError
from svae.frames import num_frames
from svae.text.vocabulary import Vocabulary


def select_utterances(
    samples: Samples,
    *,
    batch_frames: int,
    hop_length: int,
    min_seconds: float,
    max_seconds: float,
    vocabulary: Vocabulary | None = None,
) -> tuple[Samples, dict[str, int]]:
    """Return the utterances that can be in a batch, in the same order, and the number of the others by reason.

    With a vocabulary those are left out too whose text has more symbols than they have frames: its end would be read by
    no model, and most often it is the text of another recording.
    """
    usable: list[int] = []
    reasons: Counter[str] = Counter()
    for place, sample in enumerate(samples):
        if not sample.text:
            reasons["without text"] += 1
        elif sample.duration_seconds < min_seconds:
            reasons[f"shorter than {min_seconds:g} s"] += 1
        elif sample.duration_seconds > max_seconds:
            reasons[f"longer than {max_seconds:g} s"] += 1
        elif num_frames(sample.num_samples, hop_length) > batch_frames:
            reasons[f"longer than the batch budget of {batch_frames} frames"] += 1
        elif vocabulary is not None and not vocabulary.in_language(sample.language).fits(
            sample.text, num_frames(sample.num_samples, hop_length)
        ):
            reasons["with more text than frames"] += 1
        else:
            usable.append(place)
    return samples.take(usable), dict(sorted(reasons.items()))


def check_some(index: ShardIndex, samples: Samples) -> None:
    """Raise DataError where no utterance of an index, or of one of its sources, is left to train on."""
    roots = {source.name: source.root for source in index.sources} or {"": index.root}
    for name, left in index.by_source(samples).items():
        if not left:
            every = len(index.by_source(index.samples)[name])
            held_out = len(index.by_source(index.validation)[name])
            raise DataError(
                f"{roots[name]}: none of its {every} utterances can be used for training "
                f"({held_out} are held out for validation). Prepare more data, or widen the limits."
            )
