"""`evaluate --reconstruction` with judges whose answers are known."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import soundfile
import torch
from tone_shards import write_tone_shards

from svae.checkpoint import REQUIRED, write_checkpoint
from svae.errors import CheckpointError, ConfigError, DataError
from svae.evaluation import make, makers
from svae.evaluation.options import EvaluateOptions
from svae.evaluation.run import evaluate
from svae.evaluation.signals import SIGNAL_SCORES


@pytest.fixture
def vae_folder(tmp_path, tiny_vae_config):
    from svae.models.vae.vae import SpeechVAE

    torch.manual_seed(0)
    vae = SpeechVAE(tiny_vae_config)
    config = dict.fromkeys(REQUIRED["vae"]) | {
        "kind": "vae",
        "model": asdict(tiny_vae_config),
        "step": 3,
    }
    write_checkpoint(
        tmp_path / "vae", config=config | {"latent_std": None}, model_state=vae.state_dict()
    )
    return tmp_path / "vae"


def test_reconstruction_scores_the_held_out_utterances_against_themselves(
    vae_folder, tone_shards, judged, tmp_path
):
    judged(dict.fromkeys(range(1, 20000), "one tone b"))
    options = EvaluateOptions(
        model=vae_folder, data=tone_shards, reconstruction=True, out=tmp_path / "out", device="cpu"
    )
    metrics = evaluate(options)
    assert metrics["settings"]["model"]["step"] == 3 and metrics["list"]["utterances"] == 1
    assert (
        metrics["system"]["wer"] == metrics["originals"]["wer"] == pytest.approx(1 / 3)
    )  # said: one tone a
    row = json.loads((options.out / "utterances.jsonl").read_text())
    entry = row["recordings"]["reconstruction"]
    assert entry["mel_distance"] > 0 and abs(entry["sim_ecapa_to_original"]) == 1
    wav, _ = soundfile.read(options.out / "wavs" / "tone-000.wav")
    assert wav.shape[0] == row["recordings"]["originals"]["seconds"] * 16000
    for name in SIGNAL_SCORES:
        assert (entry[name] is None) == (name in entry["undefined"])
        assert (entry[name] is None) == any(f"{name} is undef" in note for note in metrics["notes"])


def test_a_perfect_codec_scores_best(vae_folder, tone_shards, judged, tmp_path, monkeypatch):
    judged(dict.fromkeys(range(1, 20000), "one tone a"))

    class Perfect:
        sample_rate, hop_length, latent_mean = 16000, 1, torch.zeros(1)

        def encode(self, waveform):
            self.mean = waveform
            return self

        def decode(self, latents):
            return torch.nn.functional.pad(latents, (0, 77))  # whole frames

    monkeypatch.setattr(makers, "load_vae", lambda path, device: Perfect())
    options = EvaluateOptions(
        model=vae_folder, data=tone_shards, reconstruction=True, out=tmp_path / "out", device="cpu"
    )
    system = evaluate(options)["system"]
    assert (
        system["mel_distance"] == 0
        and system["wer"] == 0
        and system["sim_ecapa_to_original"] == pytest.approx(1)
    )


def test_reconstruction_keeps_utterances_without_text_or_neighbours(vae_folder, judged, tmp_path):
    from svae.data.index import read_index, read_member, write_index
    from svae.data.shard_writer import ShardItem, write_shard

    first = read_index(write_tone_shards(tmp_path / "tones"))
    flac = read_member(first, first.samples[0], "flac")
    item = ShardItem(
        "alone", {"flac": flac}, first.samples[0].num_samples, 16000, "nobody", "en", ""
    )
    root = tmp_path / "textless"
    root.mkdir()
    write_index(
        root, kind="waveforms", corpus="t", sample_rate=16000, shards=[write_shard(root, 0, [item])],
        validation=["alone"],
    )  # fmt: skip
    judged(dict.fromkeys(range(1, 20000), "anything"))
    options = EvaluateOptions(
        model=vae_folder, data=root, reconstruction=True, out=tmp_path / "out", device="cpu"
    )
    metrics = evaluate(options)
    assert metrics["system"]["wer"] is None and metrics["system"]["sim_ecapa"] is None
    assert metrics["system"]["utterances"] == 1 and metrics["system"]["mel_distance"] > 0
    assert any("no text" in note for note in metrics["notes"]) and any(
        "no prompt" in n for n in metrics["notes"]
    )
    with pytest.raises(DataError, match="nothing to evaluate among 1 held-out"):
        evaluate(replace(options, reconstruction=False, model=None, wavs=tmp_path))


def test_reconstruction_takes_the_vae_inside_a_tts_checkpoint(vae_folder, tmp_path):
    inside = write_checkpoint(
        tmp_path / "tts", config={"kind": "tts", "model": {}, "step": 1}, model_state={"a": torch.zeros(1)},
        vae_folder=vae_folder,
    )  # fmt: skip
    found = make.find_vae(inside.folder)
    assert found.kind == "vae" and found.folder == tmp_path / "tts" / "vae"
    with pytest.raises(CheckpointError, match="no vae checkpoint"):
        make.find_vae(tmp_path)  # its subfolder vae/ is not asked for


def test_another_codecs_wavs_get_a_row_with_the_same_scores(
    vae_folder, tone_shards, judged, tmp_path
):
    judged(dict.fromkeys(range(1, 20000), "one tone a"))
    from svae.evaluation.items import held_out_list

    original = held_out_list(tone_shards).items[0].target
    (tmp_path / "codec").mkdir()
    waveform, rate = original.load_native()
    soundfile.write(
        tmp_path / "codec" / "tone-000.wav",
        torch.nn.functional.pad(waveform, (0, 4000)).numpy(),
        rate,
    )
    options = EvaluateOptions(
        model=vae_folder, data=tone_shards, reconstruction=True, out=tmp_path / "out", device="cpu",
        others=(("copy", tmp_path / "codec"),),
    )  # fmt: skip
    metrics = evaluate(options)
    copy = metrics["others"]["copy"]
    assert copy["mel_distance"] < 1e-3 < metrics["system"]["mel_distance"] and copy["wer"] == 0
    assert copy["sim_ecapa_to_original"] == pytest.approx(1)
    assert any(
        note.startswith("copy: 1 of 1 recordings are not as long") for note in metrics["notes"]
    )
    assert "copy" in (options.out / "table.md").read_text()
    for name in ("originals", "reconstruction", "seed 0"):
        with pytest.raises(ConfigError, match=f"--other {name}"):
            evaluate(replace(options, others=((name, tmp_path),)))
    with pytest.raises(DataError, match="--other x .*no such folder"):
        evaluate(replace(options, others=(("x", tmp_path / "none"),)))


def test_a_codec_that_loses_a_clip_does_not_score_better(tone_shards, tmp_path):
    """A missing wav is scored as silence would be."""
    from svae.evaluation import codec
    from svae.evaluation.items import held_out_list
    from svae.evaluation.recordings import recording_from_file

    target = held_out_list(tone_shards).items[0].target
    waveform, rate = target.load_native()
    soundfile.write(tmp_path / "silent.wav", torch.zeros_like(waveform).numpy(), rate)
    lost, silent, same = (
        codec.score_pair(target, made)
        for made in (
            recording_from_file(tmp_path / "gone.wav"),
            recording_from_file(tmp_path / "silent.wav"),
            target,
        )
    )
    assert lost == silent
    for column in ("mel_distance", "stft_distance", "mcd"):
        assert lost.scores[column] > same.scores[column] == pytest.approx(0, abs=1e-6)


def test_a_broken_original_counts_and_the_rest_is_reconstructed(
    vae_folder, tone_shards, judged, tmp_path
):
    judged(dict.fromkeys(range(1, 20000), "one tone a"))
    soundfile.write(tmp_path / "good.wav", (0.3 * torch.randn(8000)).numpy(), 16000)
    (tmp_path / "bad.wav").write_bytes(b"RIFF nothing")
    rows = [
        {"id": n, "text": "one tone a", "target": f"{n}.wav", "speaker": n} for n in ("good", "bad")
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics = evaluate(
        EvaluateOptions(
            model=vae_folder,
            list_file=tmp_path / "list.jsonl",
            reconstruction=True,
            out=tmp_path / "out",
            device="cpu",
        )
    )
    assert metrics["system"]["errors"] == 1 and metrics["system"]["wer"] == pytest.approx(0.5)
    assert {(e["id"], e["recording"]) for e in metrics["errors"]} == {
        ("bad", "originals"),
        ("bad", "reconstruction"),
    }
