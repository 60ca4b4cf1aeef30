"""`svae encode` and `svae decode`: what is stored is a function of data, VAE and options alone, and comes back whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from forked_ranks import in_processes
from rich.console import Console

import svae.precompute.statistics as latents_module
from svae.audio import save_audio
from svae.checkpoint import open_checkpoint, write_checkpoint
from svae.config import VAEConfig
from svae.data.batches import read_latents, read_waveform
from svae.data.index import read_index, read_member, verify_shards
from svae.errors import CheckpointError, ConfigError, DataError
from svae.models.tts.flow import posterior_latents
from svae.models.vae import streaming
from svae.models.vae.vae import SpeechVAE, load_vae
from svae.precompute.decode import DecodeOptions, decode_shards
from svae.precompute.latents import EncodeOptions, _encode_by_length, encode_shards
from svae.precompute.statistics import measure_statistics
from svae.recipe import to_tree


def write_vae(folder: Path, config: VAEConfig, *, seed: int = 0) -> Path:
    """Write a VAE checkpoint with random weights and, as after an import, no latent statistics."""
    torch.manual_seed(seed)
    description = {
        "kind": "vae",
        "step": 1,
        "model": to_tree(config),
        "teacher_dim": None,
        "sample_rate": 16000,
    }
    description |= {"hop_length": 400, "latent_mean": None, "latent_std": None}
    write_checkpoint(folder, config=description, model_state=SpeechVAE(config).state_dict())
    return folder


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from svae.config import BigVGANConfig

    decoder = BigVGANConfig(
        upsample_rates=(5, 5, 4, 4),
        upsample_kernel_sizes=(9, 9, 8, 8),
        initial_channels=32,
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3),),
    )
    config = VAEConfig(latent_dim=8, encoder_channels=4, attention_heads=2, decoder=decoder)
    return write_vae(tmp_path_factory.mktemp("vae") / "vae", config)


@pytest.fixture(scope="module")
def options(tone_shards: Path, vae: Path) -> EncodeOptions:
    return EncodeOptions(
        data=tone_shards, vae=vae, out=Path(), dtype="float32", device="cpu", workers=1
    )


@pytest.fixture(scope="module")
def latents(options: EncodeOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode_shards(replace(options, out=tmp_path_factory.mktemp("latents") / "latents"))


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder but its copy of the VAE."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_the_stored_posterior_is_that_of_the_utterance_alone(latents, tone_shards, vae):
    stored, source, model = read_index(latents), read_index(tone_shards), load_vae(vae)
    assert [s.key for s in stored.samples] == [s.key for s in source.samples]
    for a, b in zip(stored.samples, source.samples, strict=True):
        mean, logvar = read_latents(stored, a, 400)
        posterior = model.encode(read_waveform(source, b)[None])
        torch.testing.assert_close(mean, posterior.mean[0])
        torch.testing.assert_close(logvar, posterior.logvar[0])
        assert (a.num_samples, a.text, a.speaker) == (b.num_samples, b.text, b.speaker)
    assert stored.metadata["validation"] == source.metadata["validation"]


@pytest.mark.parametrize("content", ["posterior", "sample"])
def test_processes_and_batch_size_do_not_change_a_byte(options, tmp_path, content):
    options = replace(options, dtype="float16", content=content)
    one = encode_shards(replace(options, out=tmp_path / "one"))
    two = encode_shards(replace(options, out=tmp_path / "two", workers=2, batch_size=3))
    assert contents(one) == contents(two) and len(contents(one)) >= 6


def test_what_is_longer_than_a_chunk_is_encoded_alone_where_batches_are_used(
    tone_shards, vae, monkeypatch
):
    monkeypatch.setattr(streaming, "CHUNK_SECONDS", 0.7)
    index, model, seen = read_index(tone_shards), load_vae(vae), []
    model.encoder.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    rows = _encode_by_length(model, index, index.samples, 4)
    assert [sample.key for sample, _, _ in rows] == [sample.key for sample in index.samples]
    assert {batch > 1 for batch, _, _ in seen} == {True, False}
    assert all(size <= 0.7 * 16000 for batch, _, size in seen if batch > 1)


def test_two_ranks_give_the_same_bytes(latents, options, tmp_path):
    shared = replace(options, out=tmp_path / "two")
    assert in_processes(lambda rank: encode_shards(shared).name) == ["two", "two"]
    assert contents(tmp_path / "two") == contents(latents)


def test_finished_shards_are_kept(latents, options, tmp_path):
    out = encode_shards(replace(options, out=tmp_path / "again"))
    (out / "index.json").unlink()
    (out / "shard-00001.tar").unlink()
    before = (out / "shard-00000.tar").stat().st_mtime_ns
    encode_shards(replace(options, out=out))
    assert (out / "shard-00000.tar").stat().st_mtime_ns == before
    assert contents(out) == contents(latents)


def test_a_stored_sample_is_what_training_would_draw(latents, options, tmp_path):
    out = encode_shards(replace(options, out=tmp_path / "samples", content="sample", seed=5))
    samples, posteriors = read_index(out), read_index(latents)
    for a, b in zip(samples.samples, posteriors.samples, strict=True):
        drawn, certain = read_latents(samples, a, 400)
        mean, logvar = read_latents(posteriors, b, 400)
        torch.testing.assert_close(
            drawn, posterior_latents(mean[None], logvar[None], [a.key], "sample", 5)[0]
        )
        assert not torch.allclose(drawn, mean, atol=0.1)
        # Whoever samples it once more gets it back.
        torch.testing.assert_close(
            posterior_latents(drawn[None], certain[None], [a.key], "sample", 7)[0],
            drawn,
            rtol=0,
            atol=0,
        )
    other = encode_shards(replace(options, out=tmp_path / "other", content="sample", seed=6))
    assert contents(other)["shard-00000.tar"] != contents(out)["shard-00000.tar"]


def test_the_statistics_are_those_of_the_training_latents(latents, tone_shards, vae):
    index = read_index(latents)
    means = torch.cat(
        [read_latents(index, sample, 400)[0] for sample in index.train], dim=1
    ).double()
    found = index.metadata["latents"]
    np.testing.assert_allclose(found["latent_mean"], means.mean(dim=1), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found["latent_std"], means.std(dim=1, unbiased=False), rtol=1e-5)
    online = measure_statistics(
        load_vae(vae),
        read_index(tone_shards),
        limit=99,
        device=torch.device("cpu"),
        console=Console(quiet=True),
    )
    np.testing.assert_allclose(online["latent_std"], found["latent_std"], rtol=1e-4)
    assert open_checkpoint(vae, kind="vae").config["latent_mean"] is None
    assert (
        open_checkpoint(latents / "vae", kind="vae").config["latent_mean"] == found["latent_mean"]
    )


def test_statistics_stop_where_more_than_one_in_a_hundred_cannot_be_read(
    tone_shards, vae, monkeypatch
):
    index = read_index(tone_shards)
    sample, bad = index.train[0], replace(index.train[0], key="bad")
    readable = latents_module.read_waveform

    def read(index, sample):
        if sample.key == "bad":
            raise DataError("bad: damaged")
        return readable(index, sample)[..., :8000]

    def measure(broken):
        samples = [sample] * (200 - broken) + [bad] * broken + [sample] * 40
        monkeypatch.setattr(latents_module, "spread", lambda *_: samples)
        return measure_statistics(
            load_vae(vae), index, limit=999, device=torch.device("cpu"), console=Console(quiet=True)
        )["latent_statistics"]

    monkeypatch.setattr(latents_module, "read_waveform", read)
    # In one place, as a damaged shard has them: what counts is the share of all.
    assert measure(2)["unreadable"] == 2
    with pytest.raises(DataError, match="3 of 240 utterances cannot be read .*bad: damaged"):
        measure(3)


def test_keys_longer_than_a_file_s_name_are_decoded_into_shorter_ones(latents, tmp_path):
    sample = read_index(latents).samples[0]
    options = DecodeOptions(latents, tmp_path, format="flac")
    keys = ["é" * 200 + end for end in "xy"]
    paths = {options.path(replace(sample, key=key)) for key in keys}
    assert len(paths) == 2
    for path in paths:
        save_audio(path, torch.zeros(1, 10), 16000)
    assert options.path(sample).name == f"{sample.key}.flac"


def test_decoding_brings_back_every_utterance_with_its_length(latents, tmp_path):
    out = decode_shards(DecodeOptions(latents, tmp_path / "wavs", workers=2, device="cpu"))
    index, model = read_index(latents), load_vae(latents / "vae")
    for sample in index.samples:
        audio, rate = soundfile.read(out / f"{sample.key}.wav", dtype="float32")
        assert (rate, len(audio)) == (16000, sample.num_samples)
        expected = model.decode(read_latents(index, sample, 400)[0][None])[
            0, 0, : sample.num_samples
        ]
        np.testing.assert_allclose(audio, expected.numpy(), atol=1e-4)
    kept = out / f"{index.samples[0].key}.wav"
    kept.write_bytes(b"kept")
    (out / f"{index.samples[1].key}.wav").unlink()
    decode_shards(DecodeOptions(latents, out, device="cpu"))
    assert kept.read_bytes() == b"kept" and (out / f"{index.samples[1].key}.wav").exists()


def test_waveforms_of_other_latents_are_not_kept_for_those_asked_for(
    latents, options, tmp_path, tiny_vae_config
):
    other = write_vae(tmp_path / "other", tiny_vae_config, seed=1)
    others = encode_shards(replace(options, vae=other, out=tmp_path / "latents"))
    out = decode_shards(DecodeOptions(latents, tmp_path / "wavs", workers=1, device="cpu"))
    before = contents(out)
    with pytest.raises(DataError, match="holds waveforms of other shards.*another --out"):
        decode_shards(DecodeOptions(others, out, workers=1, device="cpu"))
    said = r"holds tone-001\.wav, which `svae decode` did not begin, or an older svae did(.|\n)*another --out, or delete"
    with pytest.raises(DataError, match=said):
        (tmp_path / "strange").mkdir()
        (tmp_path / "strange" / "tone-001.wav").write_bytes(b"of somebody else")
        decode_shards(DecodeOptions(latents, tmp_path / "strange", workers=1, device="cpu"))
    assert contents(out) == before


def test_latents_of_an_unfinished_vae_are_learned_the_same_whichever_copy_of_it_is_named(
    latents, vae, tmp_path
):
    from tiny_runs import TTS, tts_config

    from svae.training.dry_run import dry_run
    from svae.training.loop import TrainOptions
    from svae.training.tts.train import train_tts

    assert open_checkpoint(vae, kind="vae").config["latent_mean"] is None
    runs = []
    for name, named in (("original", vae), ("copy", latents / "vae")):
        config = tts_config(latents, named, trainer=TTS["trainer"] | {"steps": 1})
        options = TrainOptions(config, tmp_path / name, device="cpu")
        dry_run(options)
        runs.append(open_checkpoint(train_tts(options), kind="tts"))
    kept = [open_checkpoint(run.folder / "vae", kind="vae").config for run in runs]
    assert kept[0] == kept[1] and kept[0]["latent_mean"] is not None
    assert runs[0].hash == runs[1].hash


def test_another_vae_is_refused_everywhere(latents, options, tmp_path, tiny_vae_config):
    from tiny_runs import tts_config

    from svae.training.loop import TrainOptions
    from svae.training.tts.train import train_tts

    other = write_vae(tmp_path / "other", tiny_vae_config, seed=1)
    with pytest.raises(CheckpointError, match=r"(?s)latents of VAE .*Pass the VAE that made them"):
        decode_shards(DecodeOptions(latents, tmp_path / "wavs", vae=other, device="cpu"))
    with pytest.raises(CheckpointError, match=r"(?s)latents of VAE .*Pass the VAE that made them"):
        train_tts(TrainOptions(tts_config(latents, other), tmp_path / "tts", device="cpu"))
    with pytest.raises(DataError, match=r"made otherwise \(vae_hash differ\)"):
        encode_shards(replace(options, vae=other, out=latents))
    with pytest.raises(DataError, match=r"made otherwise \(dtype differ\)"):
        encode_shards(replace(options, dtype="float16", out=latents))


def test_stored_samples_need_a_recipe_that_says_so(options, tmp_path):
    from tiny_runs import tts_config

    from svae.training.loop import TrainOptions
    from svae.training.tts.train import train_tts

    out = encode_shards(replace(options, out=tmp_path / "samples", content="sample"))
    with pytest.raises(ConfigError, match=r"(?s)holds samples.*--set flow.posterior=sample"):
        train_tts(TrainOptions(tts_config(out, options.vae), tmp_path / "tts", device="cpu"))


def test_waveforms_and_latents_are_not_mistaken_for_each_other(
    latents, options, tone_shards, tmp_path
):
    with pytest.raises(DataError, match="holds latents; `svae encode` needs waveform shards"):
        encode_shards(replace(options, data=latents, out=tmp_path / "out"))
    with pytest.raises(DataError, match="holds waveforms; expected latent shards"):
        decode_shards(DecodeOptions(tone_shards, tmp_path / "out", device="cpu"))
    verify_shards(read_index(latents))
    assert set(read_index(latents).samples[0].members) == {"npy", "json"}
    assert json.loads(read_member(read_index(latents), read_index(latents).samples[0], "json"))[
        "text"
    ]
