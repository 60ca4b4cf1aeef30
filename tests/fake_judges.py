"""Judges whose answers are known, for tests of `evaluate`; the fixture `judged` of conftest puts them in place."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from svae.judges import omnilingual
from svae.judges.wavlm_speaker import EcapaOverWavLM


class FakeASR:
    """Hears what a table says, by the length of the clip."""

    description = {"asr": "fake", "model": "table"}

    def __init__(self, table):
        self.table = table

    def transcribe(self, waveforms, sample_rate=16000):
        return [self.table[waveform.shape[0]] for waveform in waveforms]


class FakeSpeaker:
    """Embeds a clip as the sign of its mean."""

    description = {"speaker": "fake", "model": "sign"}

    def embed(self, waveforms, sample_rate=16000):
        return torch.stack([torch.tensor([1.0, 0.0]) * w.mean().sign() for w in waveforms])


@pytest.fixture(scope="module")
def whisper_folder(tmp_path_factory):
    """A Whisper of the real class with random weights and a vocabulary of bytes."""
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    folder = tmp_path_factory.mktemp("whisper")
    specials = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|en|>",
        "<|translate|>",
        "<|transcribe|>",
    ]
    specials += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    symbols = [*bytes_to_unicode().values(), *specials]
    vocabulary = {symbol: i for i, symbol in enumerate(symbols)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    start, end = vocabulary["<|startoftranscript|>"], vocabulary["<|endoftext|>"]
    config = WhisperConfig(
        vocab_size=len(symbols), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_target_positions=24,
        decoder_start_token_id=start, bos_token_id=end, eos_token_id=end, pad_token_id=end,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(  # what a multilingual Whisper's generation_config.json says
        max_length=12, decoder_start_token_id=start, bos_token_id=end, eos_token_id=end, pad_token_id=end,
        is_multilingual=True, lang_to_id={"<|en|>": vocabulary["<|en|>"]},
        task_to_id={"transcribe": vocabulary["<|transcribe|>"]},
        no_timestamps_token_id=vocabulary["<|notimestamps|>"],
    )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def make_ctc(folder, *, masked=False):
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
    )

    symbols = ["<pad>", "<unk>", "|", *"abc"]
    (folder / "vocab.json").write_text(json.dumps({s: i for i, s in enumerate(symbols)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=masked).save_pretrained(
        folder
    )
    config = Wav2Vec2Config(
        vocab_size=len(symbols), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, pad_token_id=0,
        feat_extract_norm="layer" if masked else "group", do_stable_layer_norm=masked,
    )  # fmt: skip
    torch.manual_seed(0)
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


class FakeAutoModel:
    """What funasr.AutoModel is asked for: one result with a text for each input."""

    def __init__(self, model, **settings):
        self.settings = settings | {"model": model}

    def generate(self, input, **settings):  # noqa: A002
        return [{"text": f"語 {len(input)}"}]


HYPERPARAMS = """
pretrained_path: elsewhere/not-here
sample_rate: 16000
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: 20
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: 20
    channels: [8, 8, 8, 8, 24]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 8
    res2net_scale: 2
    se_channels: 8
    lin_neurons: 12
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: 12
    out_neurons: 3
mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    mean_var_norm_emb: !ref <mean_var_norm_emb>
    classifier: !ref <classifier>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        mean_var_norm_emb: !ref <mean_var_norm_emb>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        mean_var_norm_emb: !ref <pretrained_path>/mean_var_norm_emb.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
        label_encoder: !ref <pretrained_path>/label_encoder.txt
"""


SMALL = {
    "input_size": 20, "channels": [8, 8, 8, 8, 24], "kernel_sizes": [5, 3, 3, 3, 1], "dilations": [1, 2, 3, 4, 1],
    "attention_channels": 8, "res2net_scale": 2, "se_channels": 8, "lin_neurons": 12,
}  # fmt: skip


@pytest.fixture(scope="module")
def ecapa_folder(tmp_path_factory):
    """A folder in the layout of speechbrain/spkrec-ecapa-voxceleb, with a tiny random network."""
    from speechbrain.dataio.encoder import CategoricalEncoder
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier
    from speechbrain.processing.features import InputNormalization
    from speechbrain.utils.checkpoints import Checkpointer

    folder = tmp_path_factory.mktemp("ecapa")
    (folder / "hyperparams.yaml").write_text(HYPERPARAMS)
    torch.manual_seed(0)
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(["id1", "id2", "id3"])
    parts = {
        "embedding_model": ECAPA_TDNN(20, **{k: v for k, v in SMALL.items() if k != "input_size"}),
        "mean_var_norm_emb": InputNormalization(norm_type="global", std_norm=False),
        "classifier": Classifier(12, out_neurons=3),
        "label_encoder": encoder,
    }
    saved = Checkpointer(folder / "saved", recoverables=parts).save_checkpoint()
    for name, path in saved.paramfiles.items():
        path.rename(folder / f"{name}{'.txt' if name == 'label_encoder' else '.ckpt'}")
    return folder


ORIGINAL_NAMES = {  # of transformers' names, in the order in which they are tried; the inverse of what is tested
    "feature_projection.layer_norm": "layer_norm",
    "feature_projection.projection": "post_extract_proj",
    "masked_spec_embed": "mask_emb",
    "encoder.pos_conv_embed.conv.parametrizations.weight.original0": "encoder.pos_conv.0.weight_g",
    "encoder.pos_conv_embed.conv.parametrizations.weight.original1": "encoder.pos_conv.0.weight_v",
    "encoder.pos_conv_embed.conv.bias": "encoder.pos_conv.0.bias",
    "attention.gru_rel_pos_linear": "self_attn.grep_linear",
    "attention.gru_rel_pos_const": "self_attn.grep_a",
    "attention.rel_attn_embed": "self_attn.relative_attention_bias",
    ".attention.": ".self_attn.",
    "feed_forward.intermediate_dense": "fc1",
    "feed_forward.output_dense": "fc2",
}


def original_wavlm_name(name: str) -> str:
    for new, old in ORIGINAL_NAMES.items():
        name = name.replace(new, old)
    parts = name.split(".")
    if name.startswith("encoder.layers.") and parts[3] == "layer_norm":
        parts[3] = "self_attn_layer_norm"
    if name.startswith("feature_extractor"):
        parts[3:4] = ["0"] if parts[3] == "conv" else ["2", "1"]
    return ".".join(parts)


def original_ecapa_name(name: str) -> str:
    for new, old in (("reduce", "Conv1dReluBn1"), ("expand", "Conv1dReluBn2"), ("res2", "Res2Conv1dReluBn"),
                     ("squeeze", "SE_Connect.linear1"), ("excite", "SE_Connect.linear2"),
                     ("attention.0", "pooling.linear1"), ("attention.2", "pooling.linear2")):  # fmt: skip
        name = name.replace(new, old)
    return name


@pytest.fixture(scope="module")
def network() -> EcapaOverWavLM:
    from transformers import WavLMConfig, WavLMModel

    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, do_stable_layer_norm=True,
        feat_extract_norm="layer", apply_spec_augment=False,
    )  # fmt: skip
    model = EcapaOverWavLM(
        WavLMModel(config), channels=16, wide=24, bottleneck=4, attention=6, dim=10
    )
    with torch.no_grad():
        for value in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
            value.copy_(0.3 * torch.randn_like(value))
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def checkpoint(network, tmp_path_factory):
    """A file in the layout of wavlm_large_finetune.pth, with a training loss that nobody needs."""
    state = {"loss_calculator.projection.weight": torch.zeros(3, 10)}
    for name, value in network.state_dict().items():
        if name.startswith("wavlm."):
            state["feature_extract.model." + original_wavlm_name(name.removeprefix("wavlm."))] = (
                value
            )
        else:
            state[original_ecapa_name(name)] = value
    path = tmp_path_factory.mktemp("sim") / "wavlm_tiny_finetune.pth"
    torch.save({"model": state}, path)
    return path


@pytest.fixture(scope="module")
def ct2_folder(whisper_folder, tmp_path_factory):
    """A Whisper for CTranslate2 with random weights, but for being sure that it hears nothing: an unsure one is slow."""
    from ctranslate2.converters import TransformersConverter
    from transformers import WhisperForConditionalGeneration, WhisperTokenizerFast

    config = WhisperForConditionalGeneration.config_class.from_pretrained(whisper_folder)
    config.max_target_positions = 448  # what faster-whisper counts on
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    model.generation_config = type(model.generation_config).from_pretrained(whisper_folder)
    decoder = model.model.decoder
    with torch.no_grad():
        decoder.embed_tokens.weight.copy_(torch.randn_like(decoder.embed_tokens.weight))
        decoder.layer_norm.bias.copy_(decoder.embed_tokens.weight[config.eos_token_id])
    source, out = tmp_path_factory.mktemp("whisper448"), tmp_path_factory.mktemp("ct2") / "model"
    model.save_pretrained(source)
    for name in ("vocab.json", "merges.txt", "preprocessor_config.json", "tokenizer_config.json"):
        if (whisper_folder / name).is_file():
            (source / name).write_text((whisper_folder / name).read_text())
    WhisperTokenizerFast.from_pretrained(whisper_folder).save_pretrained(source)
    files = ["tokenizer.json", "preprocessor_config.json"]
    TransformersConverter(str(source), copy_files=files).convert(str(out))
    return out


OMNILINGUAL_PIPELINE = """
import importlib.util, os, sys
import soundfile
assert importlib.util.find_spec("paraformer") is None, "a file of svae's stands for a package"
print("a package that prints", flush=True)

class ASRInferencePipeline:
    dtype = "torch.bfloat16"

    def __init__(self, model_card, *, device):
        if model_card == "absent":
            raise LookupError("no card of this name") from OSError("no network")
        self.device = device

    def transcribe(self, paths, *, lang, batch_size):
        print("progress", flush=True)
        heard = []
        for path, language in zip(paths, lang, strict=True):
            samples, rate = soundfile.read(path)
            if len(samples) > 40 * rate:
                raise ValueError("Max audio length is capped at 40s")
            if len(samples) == 23000:
                os._exit(3)
            heard.append(f"{language} é {len(samples)} {rate} {batch_size} {samples.max():.4f}")
        return heard
"""
OMNILINGUAL_ASSETS = """
import os, types

class Card:
    def __init__(self, name):
        self.name = name

    def field(self, name):
        assert name == "checkpoint"
        own = os.environ.get("OMNILINGUAL_OWN_WEIGHTS")
        place = f"file://{own}" if own else f"https://example.org/{self.name}.pt"
        return types.SimpleNamespace(as_=lambda kind: kind(place))

def get_asset_store():
    return types.SimpleNamespace(retrieve_card=Card)
"""
OMNILINGUAL_LANGUAGES = (
    '["cmn_Hans", "cmn_Hant", "deu_Latn", "eng_Latn", "urd_Arab", "urd_Latn", "yue_Hant"]'
)


@pytest.fixture
def omnilingual_package(tmp_path, monkeypatch):
    """A package of the name omnilingual-asr, on the path of the interpreter that svae is told to run it with."""
    folder = tmp_path / "packages"
    inference = folder / "omnilingual_asr/models/inference"
    llama = folder / "omnilingual_asr/models/wav2vec2_llama"
    for each in (inference, llama):
        each.mkdir(parents=True)
    (inference / "pipeline.py").write_text(OMNILINGUAL_PIPELINE)
    (llama / "lang_ids.py").write_text(f"supported_langs = {OMNILINGUAL_LANGUAGES}")
    (folder / "fairseq2").mkdir()
    (folder / "fairseq2/assets.py").write_text(OMNILINGUAL_ASSETS)
    for name in ("omnilingual-asr", "fairseq2"):
        info = folder / f"{name.replace('-', '_')}-9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv(omnilingual.PYTHON_VARIABLE, sys.executable)
    return folder
