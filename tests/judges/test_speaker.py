"""Speaker models: voices are told apart, folders load, clips do not influence each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from fake_judges import SMALL

from svae.assets import asset_path
from svae.audio import load_audio
from svae.errors import ConfigError
from svae.judges.ecapa import EmbeddedECAPA
from svae.judges.speaker import load_speaker_model


@pytest.fixture(scope="module")
def voices():
    """Two clips of each of two voices."""
    rows = [
        json.loads(line) for line in asset_path("sample", "metadata.jsonl").read_text().splitlines()
    ]
    chosen = {}
    for row in rows:
        chosen.setdefault(row["speaker"], []).append(row)
    return {
        name: [
            load_audio(asset_path("sample", row["audio"]), sample_rate=16000)[0][0]
            for row in chosen[name][:2]
        ]
        for name in sorted(chosen)[:3]
    }


def test_a_local_speechbrain_folder_loads_through_pretrained_path(ecapa_folder):
    model = load_speaker_model(f"ecapa:{ecapa_folder}")
    noise = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    vectors = model.embed(list(noise))
    assert vectors.shape == (2, 12)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(model.embed([noise[1]])[0], vectors[1], atol=1e-6)
    assert (
        len(model.description["sha256"]) == 64
        and model.description["spec"] == f"ecapa:{ecapa_folder}"
    )


def test_speechbrains_folder_and_ours_are_the_same_network(ecapa_folder, tmp_path):
    from safetensors.torch import save_file

    state = torch.load(ecapa_folder / "embedding_model.ckpt", weights_only=True)
    save_file(
        {name: value.contiguous() for name, value in state.items()},
        tmp_path / "embedding_model.safetensors",
    )
    config = {"model": SMALL, "features": {"class": "Fbank", "n_mels": 20}, "held_out_eer": 0.25}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours, theirs = EmbeddedECAPA(tmp_path), load_speaker_model(f"ecapa:{ecapa_folder}")
    noise = torch.randn(12000, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(ours.embed([noise]), theirs.embed([noise]), atol=1e-5)
    assert ours.description["held_out_equal_error_rate"] == 0.25


def test_the_embedded_model_tells_the_sample_voices_apart(voices):
    model = load_speaker_model("embedded")
    vectors = {name: model.embed(clips) for name, clips in voices.items()}
    same = [float(v[0] @ v[1]) for v in vectors.values()]
    different = [float(vectors[a][0] @ vectors[b][0]) for a in vectors for b in vectors if a < b]
    assert min(same) > max(different)
    assert 0 <= model.description["held_out_equal_error_rate"] < 0.5


def test_embeddings_do_not_depend_on_neighbours_or_on_the_rate(voices):
    from svae.audio import resample

    model = load_speaker_model("embedded")
    clip = next(iter(voices.values()))[0]
    alone = model.embed([clip])[0]
    assert torch.allclose(model.embed([clip[:8000], clip])[1], alone, atol=1e-6)
    assert float(model.embed([resample(clip[None], 16000, 24000)[0]], 24000)[0] @ alone) > 0.95


def test_a_very_short_clip_has_an_embedding():
    assert load_speaker_model("embedded").embed([torch.full((10,), 0.1)]).isfinite().all()


@pytest.mark.parametrize("spec", ["", "ecapa", "ecapa:", "x-vector"])
def test_an_unknown_spec_lists_the_forms(spec):
    with pytest.raises(ConfigError, match="embedded"):
        load_speaker_model(spec)


def test_a_hub_model_without_a_network_names_what_works_offline(monkeypatch):
    import huggingface_hub

    def no_network(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_session", no_network)
    with pytest.raises(ConfigError, match=r"(?s)not in the local hub cache.*--speaker embedded"):
        load_speaker_model("ecapa:nobody/nothing-at-all")


def test_a_folder_that_holds_no_model_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_speaker_model(f"ecapa:{tmp_path}")


def test_on_real_voices_pairs_of_one_speaker_score_above_pairs_of_two(shared):
    files = {
        "lj": sorted((shared / "data/LJSpeech-mini/wavs").glob("*.wav"))[:12],
        "1088": sorted((shared / "data/LibriSpeech-mini/dev-clean/1088").rglob("*.flac")),
        "2412": sorted((shared / "data/LibriSpeech-mini/dev-clean/2412").rglob("*.flac")),
    }
    model = load_speaker_model("embedded")
    clips = [
        (name, load_audio(path, sample_rate=16000)[0][0])
        for name, paths in files.items()
        for path in paths
    ]
    vectors = model.embed([clip for _, clip in clips])
    scores = vectors @ vectors.T
    same, different = [], []
    for i, (a, _) in enumerate(clips):
        for j, (b, _) in enumerate(clips[:i]):
            (same if a == b else different).append(float(scores[i, j]))
    assert len(same) >= 15 and len(different) >= 15
    assert sum(same) / len(same) > sum(different) / len(different) + 0.05


def test_a_revision_pins_what_is_loaded_from_the_hub(monkeypatch, ecapa_folder):
    import huggingface_hub

    from svae.evaluation.protocols import ECAPA

    asked = []

    def download(repo, name, *, revision, local_files_only):
        asked.append((repo, revision, local_files_only))
        return str(ecapa_folder / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    model = load_speaker_model(ECAPA)
    pinned = ECAPA.rpartition("@")[2]
    assert asked == [("speechbrain/spkrec-ecapa-voxceleb", pinned, True)] * 2
    assert model.description["revision"] == pinned and len(pinned) == 40
    assert model.description["spec"] == ECAPA
    assert (
        model.description["sha256"]
        == load_speaker_model(f"ecapa:{ecapa_folder}").description["sha256"]
    )


@pytest.fixture
def own_folder(ecapa_folder, tmp_path):
    """A copy of the folder, to be changed."""
    return shutil.copytree(ecapa_folder, tmp_path / "ecapa")


def test_embeddings_are_those_of_speechbrains_own_loader(ecapa_folder, tmp_path):
    from speechbrain.inference.speaker import EncoderClassifier
    from speechbrain.utils.fetching import LocalStrategy

    theirs = EncoderClassifier.from_hparams(
        source=str(ecapa_folder), savedir=str(tmp_path), overrides={"pretrained_path": str(ecapa_folder)},
        local_strategy=LocalStrategy.COPY,
    )  # fmt: skip
    ours = load_speaker_model(f"ecapa:{ecapa_folder}")
    for samples in (4000, 16000, 50001):
        clip = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(samples))
        with torch.inference_mode():
            expected = theirs.encode_batch(clip[None]).reshape(1, -1)
        assert torch.equal(ours.embed([clip]), torch.nn.functional.normalize(expected, dim=-1))


@pytest.mark.parametrize(
    "line",
    [
        "evil: !apply:pathlib.Path.touch [!new:pathlib.Path [MARK]]",
        "evil: !new:pathlib.Path [MARK]",
        "evil: !!python/object/apply:os.system ['touch MARK']",
        "evil: !module:antigravity",
        "evil: !include:MARK",
        "evil: !name:os.system",
    ],
)
def test_nothing_in_a_folder_is_run(own_folder, line, monkeypatch):
    mark = own_folder.parent / "run"
    text = line.replace("MARK", str(mark)) + "\n" + (own_folder / "hyperparams.yaml").read_text()
    (own_folder / "hyperparams.yaml").write_text(text)
    (own_folder / "custom.py").write_text(f"open({str(mark)!r}, 'w')")
    assert load_speaker_model(f"ecapa:{own_folder}").embed([torch.ones(4000)]).shape == (1, 12)
    assert not mark.exists()


def test_weights_that_are_pickled_code_are_refused(own_folder):
    class Evil:
        def __reduce__(self):
            return Path.touch, (own_folder.parent / "run",)

    torch.save({"fc.conv.weight": Evil()}, own_folder / "embedding_model.ckpt")
    with pytest.raises(ConfigError, match="cannot be loaded as weights alone"):
        load_speaker_model(f"ecapa:{own_folder}")
    assert not (own_folder.parent / "run").exists()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("n_mels: 20", "n_mels: 40", "n_mels 40, but the network takes 20"),
        ("lin_neurons: 12", "lin_neurons: 13", "lin_neurons 13, but the weights .* have 12"),
        ("dilations: [1, 2, 3, 4, 1]", "dilations: [1, 2]", "not what speechbrain's classes take"),
        ("features.Fbank", "features.MFCC", "only !new:speechbrain.lobes.features.Fbank"),
        ("lin_neurons: 12", "lin_neurons: 12\n    colour: 3", "colour is not known"),
        ("n_mels: 20", "n_mels: !apply:os.getpid []", "is not read; expected a plain value"),
        ("n_mels: 20", "n_mels: !ref <nothing>", "is not read"),
        ("embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN", "embedding_model: !new:os.system", "only !new:"),
        ("pretrained_path: elsewhere/not-here", "a: [", "cannot be read"),
    ],
)  # fmt: skip
def test_a_yaml_that_asks_for_what_is_not_known_is_refused(own_folder, before, after, said):
    text = (own_folder / "hyperparams.yaml").read_text()
    assert before in text
    (own_folder / "hyperparams.yaml").write_text(text.replace(before, after))
    with pytest.raises(ConfigError, match=said):
        load_speaker_model(f"ecapa:{own_folder}")


def test_dilations_of_the_yaml_are_heard_and_references_followed(own_folder):
    text = (own_folder / "hyperparams.yaml").read_text()
    clip = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    before = load_speaker_model(f"ecapa:{own_folder}").embed([clip])
    renamed = text.replace("input_size: 20", "input_size: !ref <mels>") + "mels: 20\n"
    (own_folder / "hyperparams.yaml").write_text(renamed)
    assert torch.equal(load_speaker_model(f"ecapa:{own_folder}").embed([clip]), before)
    changed = text.replace("dilations: [1, 2, 3, 4, 1]", "dilations: [1, 1, 1, 1, 1]")
    (own_folder / "hyperparams.yaml").write_text(changed)
    assert not torch.allclose(load_speaker_model(f"ecapa:{own_folder}").embed([clip]), before)


def test_weights_of_something_else_are_refused(own_folder):
    torch.save({"weight": torch.ones(2)}, own_folder / "embedding_model.ckpt")
    with pytest.raises(ConfigError, match="not the weights of speechbrain's ECAPA_TDNN"):
        load_speaker_model(f"ecapa:{own_folder}")
