"""The model that `svae adapt` starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from svae.checkpoint import EMBEDDED, Checkpoint, open_checkpoint
from svae.errors import CheckpointError, DataError
from svae.models.representation import KINDS, Representation, kind_of, load_representation
from svae.runtime.hub import hub_model
from svae.synthesis.adapter import with_student
from svae.synthesis.durations import DurationRule
from svae.synthesis.open_durations import open_own_rule
from svae.synthesis.types import STUDENT
from svae.text.phonemes import FramePhonemes, open_vocabulary
from svae.text.unknown_words import guess
from svae.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Base:
    """The model that is adapted."""

    named: str
    """As an adapter names it: `embedded`, a commit on the hub (`user/repo@COMMIT`), or an absolute path."""
    checkpoint: Checkpoint
    representation: Representation
    vocabulary: Vocabulary

    @property
    def timed(self) -> bool:
        """Whether it reads one phone a frame, and needs the times of phones."""
        return isinstance(self.vocabulary, FramePhonemes)

    @property
    def stored(self) -> bool:
        """Whether its frames can be made once and stored."""
        return KINDS[kind_of(self.checkpoint)].in_shards

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.representation.sample_rate / self.representation.hop_length

    @property
    def student(self) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None:
        """Of a model that has a student: gives weights what makes them one."""
        if self.checkpoint.config.get(STUDENT) is None:
            return None
        return partial(with_student, self.checkpoint)

    def rule(self, device: str) -> DurationRule:
        """Return how it decides durations, which adaptation leaves as it is."""
        return open_own_rule(self.checkpoint, self.vocabulary, self.frame_rate, device)


def open_base(model: Path, device: str) -> Base:
    """Load what is around the network of the model that is adapted.

    Raises:
        CheckpointError: it is unusable.
    """
    checkpoint = open_checkpoint(model, kind="tts")
    if str(model) == EMBEDDED:
        named = EMBEDDED
    elif (on_hub := hub_model(model)) is not None:
        named = f"{on_hub.repo}@{checkpoint.folder.name}"  # the cache's folders are called by their commits
    else:
        named = str(checkpoint.folder.absolute())
    try:
        vocabulary = open_vocabulary(checkpoint.config["vocabulary"], guess=guess)
        representation = load_representation(checkpoint, device)
    except (KeyError, TypeError, DataError) as error:
        raise CheckpointError(f"{checkpoint.folder}/config.json: damaged: {error!r}") from None
    return Base(named, checkpoint, representation, vocabulary)
