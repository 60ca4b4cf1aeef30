"""Where anchored latents start: the principal components of a teacher's features of the training data, before step 0."""

from __future__ import annotations

import torch
from rich.console import Console
from rich.progress import track

from svae.data.batches import CachedTeacherFeatures, read_waveform
from svae.data.index import ShardIndex
from svae.errors import DataError
from svae.models.teacher import Teacher
from svae.models.vae.anchor import Anchor
from svae.models.vae.vae import SpeechVAE
from svae.precompute.statistics import spread
from svae.runtime.distributed import World, copy_from_first_rank

UTTERANCES = 200
"""How many are listened to, spread over the training set: some 50,000 features of some hundred numbers."""


@torch.no_grad()
def start_anchor(
    vae: SpeechVAE,
    teacher: Teacher | None,
    cached: CachedTeacherFeatures | None,
    index: ShardIndex,
    world: World,
    console: Console,
) -> None:
    """Fit the map of anchored latents to features that are stored, or made now; without them, nothing happens.

    Raises:
        DataError: no utterance can be read.
    """
    anchor = vae.regulator
    if not isinstance(anchor, Anchor):
        return
    if world.is_main:
        found = []
        for sample in track(
            spread(index.train, UTTERANCES), "Teacher", console=console, transient=True
        ):
            try:
                if cached is not None:
                    found.append(cached.cache.read_whole(sample.key, vae.hop_length))
                elif teacher is not None:
                    # Of a long utterance what the teacher hears at once: any features will do.
                    waveform = read_waveform(index, sample)[None, :, : teacher.max_samples]
                    waveform = waveform.to(world.device)
                    found.append(teacher.features(waveform)[0].cpu())
            except DataError as error:
                console.print(f"[yellow]Skipped: {error}[/]")
        if not found:
            raise DataError(f"{index.root}: no training utterance could be read for the teacher")
        share = anchor.fit(torch.cat(found).to(anchor.mean.device))
        console.print(
            f"Anchored latents: {len(anchor.components)} principal components keep {share:.1%} of the teacher's variance"
        )
    for buffer in anchor.buffers():
        copy_from_first_rank(buffer, world)
