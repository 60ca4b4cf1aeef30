"""The teacher: which layer, which input normalisation, and which moment of the audio a feature belongs to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_teachers import write_w2v_bert, write_whisper
from torch import nn
from transformers.models.hubert import HubertConfig, HubertForCTC, HubertModel
from transformers.models.seamless_m4t import SeamlessM4TFeatureExtractor
from transformers.models.wav2vec2 import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
)
from transformers.models.wavlm import WavLMConfig, WavLMForCTC, WavLMModel
from transformers.models.whisper import WhisperFeatureExtractor

from svae.config import TeacherConfig
from svae.errors import ConfigError, DataError
from svae.models.teacher import Teacher, load_teacher

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 7,
}
CLASSES = {
    "wavlm": (WavLMConfig, WavLMModel, WavLMForCTC),
    "hubert": (HubertConfig, HubertModel, HubertForCTC),
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model, Wav2Vec2ForCTC),
}


def save_random(folder: Path, kind: str, *, stable: bool, normalize: bool) -> nn.Module:
    """Write a small random CTC model as a transformers folder and return its encoder."""
    config_class, _, ctc_class = CLASSES[kind]
    torch.manual_seed(0)
    config = config_class(
        **SMALL, do_stable_layer_norm=stable, feat_extract_norm="layer" if stable else "group"
    )
    model = ctc_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that no norm is the identity
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(folder)
    return model.base_model


@pytest.fixture(scope="module")
def waveform() -> torch.Tensor:
    return 0.1 * torch.randn(2, 1, 4000, generator=torch.Generator().manual_seed(1)) + 0.02


@pytest.mark.parametrize(
    ("kind", "stable", "normalize"),
    [
        ("wavlm", True, True),
        ("wavlm", False, False),
        ("hubert", True, True),
        ("wav2vec2", False, True),
    ],
)
def test_every_layer_equals_transformers_own_states(tmp_path, waveform, kind, stable, normalize):
    encoder = save_random(tmp_path, kind, stable=stable, normalize=normalize)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalize)
    inputs = extractor(
        list(waveform[:, 0].numpy()), sampling_rate=16000, return_tensors="pt"
    ).input_values
    with torch.no_grad():
        expected = encoder(inputs, output_hidden_states=True)
    for layer, target in [
        *[(k, expected.hidden_states[k]) for k in range(3)],
        (-2, expected.hidden_states[2]),
        (3, expected.last_hidden_state),
        (-1, expected.last_hidden_state),
    ]:
        teacher = load_teacher(TeacherConfig(model=str(tmp_path), layer=layer))
        assert teacher.feature_dim == 16
        torch.testing.assert_close(teacher.features(waveform), target, atol=2e-5, rtol=1e-4)
    average = load_teacher(TeacherConfig(model=str(tmp_path), layer="average"))
    expected_average = torch.stack(expected.hidden_states[1:]).mean(dim=0)
    torch.testing.assert_close(average.features(waveform), expected_average, atol=2e-5, rtol=1e-4)
    assert "average of 3 layers" in average.description
    if stable:  # the two candidates for "the last layer" do differ, so the assertion above decides between them
        assert (
            encoder.encoder.layer_norm(expected.hidden_states[2]) - expected.hidden_states[2]
        ).abs().max() > 0.1


def test_w2v_bert_hears_log_mel_frames_without_padding(tmp_path, waveform):
    model, extractor = write_w2v_bert(tmp_path), SeamlessM4TFeatureExtractor()
    samples = 400 + 160 * 19  # 20 log-mel frames, 10 stacks: nothing to trim
    inputs = extractor(
        list(waveform[:, 0, :samples].numpy()), sampling_rate=16000, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(**inputs, output_hidden_states=True)
    teacher = load_teacher(TeacherConfig(model=str(tmp_path), layer=2))
    features = teacher.features(
        waveform[..., : samples + 170]
    )  # an odd 21st log-mel frame is left out
    assert (teacher.hop_length, teacher.receptive_field) == (320, 560)
    torch.testing.assert_close(features, expected.hidden_states[2], atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> tuple[Path, nn.Module]:
    folder = tmp_path_factory.mktemp("whisper")
    return folder, write_whisper(folder)


def test_whisper_of_thirty_seconds_equals_transformers_own_states(whisper):
    folder, encoder = whisper
    audio = 0.1 * torch.randn(1, 1, 480_000, generator=torch.Generator().manual_seed(1))
    inputs = WhisperFeatureExtractor()(
        audio[0].numpy(), sampling_rate=16000, return_tensors="pt"
    ).input_features
    with torch.no_grad():
        expected = encoder(inputs, output_hidden_states=True)
    for layer, target in [
        (0, expected.hidden_states[0]),
        (2, expected.hidden_states[2]),
        (-1, expected.last_hidden_state),
    ]:
        teacher = load_teacher(TeacherConfig(model=str(folder), layer=layer))
        assert (teacher.hop_length, teacher.feature_dim) == (320, 16)
        torch.testing.assert_close(teacher.features(audio), target, atol=2e-5, rtol=1e-4)
    assert teacher.max_samples == 480_000
    with pytest.raises(DataError, match="at most 30 seconds"):
        teacher.features(torch.cat([audio, audio], dim=-1))


def test_whisper_computes_no_more_frames_than_there_are(whisper, waveform):
    teacher = load_teacher(TeacherConfig(model=str(whisper[0]), layer="average"))
    assert teacher.features(waveform).shape == (2, 13, 16)  # 4,000 samples are 25 log-mel frames
    assert "average of 3 layers" in teacher.description
    assert not any(name.startswith("decoder") for name, _ in teacher.model.named_parameters())


@pytest.mark.parametrize("context", [0, 4000])
def test_a_click_shows_in_whispers_frame_that_contains_it(whisper, context):
    teacher = load_teacher(TeacherConfig(model=str(whisper[0]), layer=0))
    frames, hop = 40, 400
    noise = 1e-3 * torch.randn(
        1, 1, 2 * context + frames * hop, generator=torch.Generator().manual_seed(0)
    )
    quiet = teacher.aligned_features(noise, context, frames, hop)[0]
    for frame in (5, 17, 18, 31):
        audio = noise.clone()
        start = context + frame * hop + hop // 2 - 4  # the middle of the latent frame
        audio[..., start : start + 8] = (
            0.01  # quieter than would lower the floor that Whisper takes from the loudest frame
        )
        energy = (
            (teacher.aligned_features(audio, context, frames, hop)[0] - quiet).square().sum(dim=-1)
        )
        assert abs(int(energy.argmax()) - frame) <= 1
        centroid = (energy * torch.arange(frames)).sum() / energy.sum()
        assert abs(float(centroid) - frame) < 0.6


def test_is_frozen_in_eval_mode_and_records_no_gradient(tmp_path, waveform):
    save_random(tmp_path, "wavlm", stable=False, normalize=True)
    teacher = load_teacher(TeacherConfig(model=str(tmp_path), layer=1))
    audio = waveform.clone().requires_grad_()
    features = teacher.aligned_features(audio, 400, 8, 400)
    assert features.shape == (2, 8, 16)
    assert not features.requires_grad
    assert (
        not features.is_inference()
    )  # the regulator has to backpropagate through what it makes of them
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert len(teacher.model.encoder.layers) == 1  # nothing above the layer is computed


def test_on_a_cpu_autocast_does_not_change_what_the_teacher_hears(waveform):
    """With bfloat16 the embedded teacher's positional convolution is computed wrongly on processors with AMX."""
    teacher = load_teacher(TeacherConfig(model="embedded", layer=3))
    expected = teacher.features(waveform)
    with torch.autocast("cpu", torch.bfloat16):
        features = teacher.features(waveform)
    assert torch.equal(features, expected)


def test_interpolation_reproduces_a_ramp_over_time_exactly():
    hop, receptive_field, context, latent_hop, frames = 320, 400, 1600, 400, 9
    teacher = Teacher.__new__(Teacher)
    teacher.hop_length, teacher.receptive_field = hop, receptive_field
    seconds = (hop * torch.arange(40, dtype=torch.float64) + (receptive_field - 1) / 2) / 16000
    teacher.features = lambda waveform: torch.stack([seconds, 3 - 2 * seconds], dim=-1)[
        None
    ].float()
    aligned = teacher.aligned_features(torch.zeros(1, 1, 6800), context, frames, latent_hop)
    centres = (context + latent_hop * torch.arange(frames, dtype=torch.float64) + 199.5) / 16000
    torch.testing.assert_close(aligned[0, :, 0].double(), centres, atol=1e-6, rtol=0)
    torch.testing.assert_close(aligned[0, :, 1].double(), 3 - 2 * centres, atol=1e-6, rtol=0)


@pytest.mark.parametrize("context", [0, 4000])
def test_a_click_shows_in_the_latent_frame_that_contains_it(context):
    torch.manual_seed(0)
    config = Wav2Vec2Config(**SMALL, feat_extract_norm="group")
    convolutions = Wav2Vec2Model(config).eval().feature_extractor

    def model(inputs):
        return SimpleNamespace(last_hidden_state=convolutions(inputs).transpose(1, 2))

    model.config, model.parameters = config, convolutions.parameters
    teacher = Teacher(model, Wav2Vec2FeatureExtractor(do_normalize=True), "convolutions only")
    frames, hop = 40, 400
    for frame in (5, 17, 18, 31):
        audio = torch.zeros(1, 1, 2 * context + frames * hop)
        start = context + frame * hop + hop // 2 - 4  # the middle of the latent frame
        audio[..., start : start + 8] = 0.5
        features = teacher.aligned_features(audio, context, frames, hop)[0]
        energy = (features - features.median(dim=0).values).square().sum(dim=-1)
        assert abs(int(energy.argmax()) - frame) <= 1
        centroid = (energy * torch.arange(frames)).sum() / energy.sum()
        assert abs(float(centroid) - frame) < 0.6


@pytest.mark.parametrize("layer", [4, -5])
def test_a_layer_that_the_model_lacks_is_refused_with_the_range(tmp_path, layer):
    save_random(tmp_path, "hubert", stable=False, normalize=False)
    with pytest.raises(ConfigError, match="has 3 layers; use 0 to 3"):
        load_teacher(TeacherConfig(model=str(tmp_path), layer=layer))


def test_another_kind_of_model_rate_or_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_teacher(TeacherConfig(model=str(tmp_path), layer=0))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="bert model; teachers can be wavlm"):
        load_teacher(TeacherConfig(model=str(tmp_path), layer=0))
    with pytest.raises(ConfigError, match="neither a folder nor a hub id"):
        load_teacher(TeacherConfig(model="./no/such/folder", layer=0))
    save_random(tmp_path, "wavlm", stable=False, normalize=True)
    with pytest.raises(ConfigError, match="hears 16000 Hz, but the VAE runs at 24000 Hz"):
        load_teacher(TeacherConfig(model=str(tmp_path), layer=0), sample_rate=24000)


def test_missing_weights_are_refused_not_initialised_at_random(tmp_path):
    from safetensors.torch import load_file, save_file

    save_random(tmp_path, "wavlm", stable=False, normalize=True)
    weights = load_file(tmp_path / "model.safetensors")
    gone = next(key for key in weights if "layers.0" in key and key.endswith("out_proj.weight"))
    del weights[gone]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="weights are missing"):
        load_teacher(TeacherConfig(model=str(tmp_path), layer=2))


def test_a_hub_id_without_a_network_names_the_offline_options(monkeypatch):
    import huggingface_hub

    requests = []

    def head(url, **options):
        requests.append(url)
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=head))
    with pytest.raises(
        ConfigError, match=r"(?s)Name or service not known.*teacher.model: embedded.*local"
    ):
        load_teacher(TeacherConfig(model="svae-tests/not-in-any-cache", layer=1))
    assert len(requests) == 1
