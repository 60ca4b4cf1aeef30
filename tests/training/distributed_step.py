"""One training step, started by torchrun from test_distributed: rank 0 saves the gradients it ended with.

The batch of the whole job is the same for any number of processes; each takes its slice.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tiny_runs import TTS, VAE

from svae import recipe
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.data.batches import read_utterances, read_waveform
from svae.data.index import read_index
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import open_world
from svae.text.vocabulary import Vocabulary
from svae.training.tts import train as tts
from svae.training.vae import train as vae
from svae.training.vae.step import train_step


def vae_gradients(index, world) -> dict[str, torch.Tensor]:
    """Run a VAE step on four crops, one of them with padding."""
    config = recipe.build(
        VAETrainConfig, {"data": {"root": str(index.root)}} | VAE | {"batch_size": 4}, where="test"
    )
    state = vae.build_state(config, None, world)
    state.step = 1  # the discriminator takes part
    size = vae.segment_samples(config)
    from svae.data.batches import CropBatch

    waveform = torch.stack([read_waveform(index, s, 0, size) for s in index.samples[:4]])
    lengths = torch.tensor([size, size - 900, size, size])
    waveform[1, :, size - 900 :] = 0
    mine = slice(world.rank * 4 // world.world_size, (world.rank + 1) * 4 // world.world_size)
    places = list(range(4))[mine]
    batch = CropBatch(
        ["k"] * len(places), waveform[mine], lengths[mine], torch.zeros(4)[mine], places=places
    )
    train_step(state, [batch], config, world)
    networks = {"model": state.model, "discriminator": state.discriminator}
    return {
        f"{n}.{k}": p.grad
        for n, net in networks.items()
        for k, p in net.named_parameters()
        if p.grad is not None
    }


def tts_gradients(index, world) -> dict[str, torch.Tensor]:
    """Run a TTS step on four utterances of different lengths."""
    tree = {"data": {"root": str(index.root)}} | TTS | {"dit": TTS["dit"] | {"dropout": 0.0}}
    config = recipe.build(TTSTrainConfig, tree, where="test")
    torch.manual_seed(1)
    model = SpeechVAE(
        recipe.build(VAETrainConfig, {"data": {"root": "x"}} | VAE, where="test").vae
    ).eval()
    vocabulary = Vocabulary.from_characters(index.metadata["characters"])
    state = tts.build_state(config, model, vocabulary, world)
    for parameter in state.model.parameters():  # adaLN starts at zero, which hides most gradients
        torch.nn.init.normal_(parameter, std=0.05)
    mine = slice(world.rank * 4 // world.world_size, (world.rank + 1) * 4 // world.world_size)
    batch = read_utterances(index, index.samples[:4][mine], vocabulary=vocabulary, hop_length=400)
    batch.places = list(range(4))[mine]
    tts.train_step(state, [batch], config, world)
    return {k: p.grad for k, p in state.model.named_parameters() if p.grad is not None}


def main() -> None:
    """Run the step that the arguments name."""
    kind, data, out = sys.argv[1:]
    with open_world("cpu") as world:
        gradients = {"vae": vae_gradients, "tts": tts_gradients}[kind](
            read_index(Path(data)), world
        )
        if world.is_main:
            torch.save({name: gradient.contiguous() for name, gradient in gradients.items()}, out)


if __name__ == "__main__":
    main()
