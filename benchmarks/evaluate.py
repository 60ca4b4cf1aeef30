"""Audio seconds per second of each stage of `svae evaluate`, on clips as long as those of the LibriSpeech-PC list.

    python benchmarks/evaluate.py --device cuda                 # 1,127 clips, 2 h; judges of published sizes
    python benchmarks/evaluate.py --tiny                        # a smoke test, seconds on a CPU

Judges have random weights, so nothing is downloaded: Whisper large-v3's sizes with beam 5 (a random network never ends a
sentence; it is stopped after --tokens, about what 10 s of speech have), HuBERT large's, ECAPA-TDNN's of
spkrec-ecapa-voxceleb, WavLM-large + ECAPA. Transcripts are noise; the time is what a trained one takes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from common import Results, describe
from rich.console import Console
from torch import Tensor

from svae.audio import save_audio
from svae.evaluation.ask import Bench, embed_all, transcribe_all
from svae.evaluation.codec import ask_pairs
from svae.evaluation.recordings import recording_from_file
from svae.judges.ctc import CTC
from svae.judges.wavlm_speaker import EcapaOverWavLM, WavLMSpeaker
from svae.judges.whisper import Whisper
from svae.runtime.distributed import World, describe_device, select_device

RATE = 16000


def clip(number: int, seconds: float) -> Tensor:
    """Return a buzz with pauses (1, S): speech enough for PESQ and STOI to measure it."""
    time = torch.arange(int(seconds * RATE)) / RATE
    pitch = 100 + 5 * (number % 30)
    tone = sum(torch.sin(2 * torch.pi * k * (pitch + 10 * time) * time) / k for k in range(1, 12))
    noise = torch.randn(time.shape, generator=torch.Generator().manual_seed(number))
    return (0.1 * (0.55 + 0.45 * torch.sin(2 * torch.pi * 4 * time)) * tone + 0.002 * noise)[None]


def write_whisper(folder: Path, *, tiny: bool, tokens: int) -> None:
    """Write a multilingual Whisper with random weights and a vocabulary of bytes inside one of the real size."""
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    specials = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|en|>",
        "<|translate|>",
        "<|transcribe|>",
    ]
    specials += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    vocabulary = {symbol: i for i, symbol in enumerate([*bytes_to_unicode().values(), *specials])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80 if tiny else 128).save_pretrained(folder)
    start, end = vocabulary["<|startoftranscript|>"], vocabulary["<|endoftext|>"]
    width, layers, heads = (16, 1, 2) if tiny else (1280, 32, 20)
    size = len(vocabulary) if tiny else 51866
    marks = {
        "decoder_start_token_id": start,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    config = WhisperConfig(
        vocab_size=size, num_mel_bins=80 if tiny else 128, d_model=width, encoder_layers=layers, decoder_layers=layers,
        encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width, suppress_tokens=None, begin_suppress_tokens=None, **marks,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config).half()
    model.generation_config = GenerationConfig(
        max_new_tokens=tokens, suppress_tokens=list(range(len(vocabulary), size)) or None, is_multilingual=True,
        lang_to_id={"<|en|>": vocabulary["<|en|>"]}, task_to_id={"transcribe": vocabulary["<|transcribe|>"]},
        no_timestamps_token_id=vocabulary["<|notimestamps|>"], **marks,
    )  # fmt: skip
    model.save_pretrained(folder)


def write_hubert(folder: Path, *, tiny: bool) -> None:
    """Write a CTC model of HuBERT large's structure with random weights."""
    from transformers import (
        HubertConfig,
        HubertForCTC,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
    )

    symbols = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
    (folder / "vocab.json").write_text(json.dumps({s: i for i, s in enumerate(symbols)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    sizes = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    }
    if tiny:
        sizes = {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        }
        sizes |= {
            "conv_dim": (8,) * 7,
            "num_conv_pos_embeddings": 8,
            "num_conv_pos_embedding_groups": 2,
        }
    config = HubertConfig(
        vocab_size=len(symbols),
        pad_token_id=0,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        **sizes,
    )
    HubertForCTC(config).save_pretrained(folder)


class RandomECAPA:
    """speechbrain's ECAPA-TDNN in the sizes of spkrec-ecapa-voxceleb."""

    def __init__(self, device: torch.device, *, tiny: bool) -> None:
        from speechbrain.lobes.features import Fbank
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

        sizes = (
            {
                "channels": [8, 8, 8, 8, 24],
                "attention_channels": 8,
                "res2net_scale": 2,
                "se_channels": 8,
            }
            if tiny
            else {}
        )
        sizes |= {} if tiny else {"channels": [1024, 1024, 1024, 1024, 3072]}
        kernels = {
            "kernel_sizes": [5, 3, 3, 3, 1],
            "dilations": [1, 2, 3, 4, 1],
            "lin_neurons": 192,
        }
        self._device, self._features = device, Fbank(n_mels=80).to(device)
        self._model = ECAPA_TDNN(80, **sizes, **kernels).to(device).eval()
        self.description = {"speaker": "ecapa", "model": "random"}

    @torch.inference_mode()
    def embed(self, waveforms: list[Tensor], sample_rate: int = RATE) -> Tensor:
        """Return embeddings (N, 192)."""
        return torch.stack(
            [self._model(self._features(w[None].to(self._device))).reshape(-1) for w in waveforms]
        )


def random_wavlm_speaker(device: torch.device, *, tiny: bool) -> WavLMSpeaker:
    """Return SIM-o's network with random weights."""
    from transformers import WavLMConfig, WavLMModel

    sizes = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    }
    widths = {"channels": 512, "wide": 1536, "bottleneck": 128, "attention": 128, "dim": 256}
    if tiny:
        sizes = {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        }
        sizes |= {
            "conv_dim": (8,) * 7,
            "num_conv_pos_embeddings": 8,
            "num_conv_pos_embedding_groups": 2,
        }
        widths = {"channels": 16, "wide": 24, "bottleneck": 4, "attention": 4, "dim": 8}
    config = WavLMConfig(
        feat_extract_norm="layer", do_stable_layer_norm=True, apply_spec_augment=False, **sizes
    )
    model = WavLMSpeaker.__new__(WavLMSpeaker)
    model.device = device
    model._model = EcapaOverWavLM(WavLMModel(config), **widths).to(device).eval()
    model.description = {"speaker": "wavlm-ecapa", "model": "random"}
    return model


def main() -> None:
    """Write the clips, ask each judge, print and store audio seconds per second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--clips", type=int, default=1127)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument(
        "--stages", nargs="+", default=["whisper", "hubert", "sim_ecapa", "sim_o", "signal"]
    )
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = select_device(options.device)
    tiny = options.tiny
    count = 6 if options.tiny else options.clips
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        recordings, noisy = [], []
        for i in range(count):
            # 4 to 10 s, as in the list.
            wave = clip(i, 1.0 if tiny else 4.0 + 6.0 * (i * 0.618 % 1))
            for kind, found in (("clean", recordings), ("noisy", noisy)):
                path = root / f"{kind}-{i}.wav"
                save_audio(
                    path, wave + (0.01 * torch.randn(wave.shape) if kind == "noisy" else 0), RATE
                )
                found.append(recording_from_file(path))
        results = Results(options.out, describe(device), clips=count, batch_size=options.batch_size)
        bench = Bench(World(0, 1, device), root / "cache", options.batch_size, Console(stderr=True))
        for folder in ("whisper", "hubert"):
            (root / folder).mkdir()
        if "whisper" in options.stages:
            write_whisper(root / "whisper", tiny=tiny, tokens=8 if tiny else options.tokens)
            whisper = Whisper(
                str(root / "whisper"), device, num_beams=5, batch_size=options.batch_size
            )
            transcribe_all(bench, whisper, recordings)
            bench.stages.seconds["whisper"] = bench.stages.seconds.pop("asr")
            bench.stages.audio_seconds["whisper"] = bench.stages.audio_seconds.pop("asr")
            del whisper
            results.note(stages=bench.stages.description)
        if "hubert" in options.stages:
            write_hubert(root / "hubert", tiny=tiny)
            transcribe_all(
                bench, CTC(str(root / "hubert"), device, batch_size=options.batch_size), recordings
            )
            bench.stages.seconds["hubert"] = bench.stages.seconds.pop("asr")
            bench.stages.audio_seconds["hubert"] = bench.stages.audio_seconds.pop("asr")
            results.note(stages=bench.stages.description)
        if "sim_ecapa" in options.stages:
            embed_all(bench, "sim_ecapa", RandomECAPA(device, tiny=tiny), recordings)
            results.note(stages=bench.stages.description)
        if "sim_o" in options.stages:
            embed_all(bench, "sim_o", random_wavlm_speaker(device, tiny=tiny), recordings)
            results.note(stages=bench.stages.description)
        if "signal" in options.stages:
            with bench.stages.measure("signal"):
                ask_pairs(bench, list(zip(noisy, recordings, strict=True)))
        stages = bench.stages.description
        results.note(stages=stages)
    print(f"{count} clips on {describe_device(device)}, batches of {options.batch_size}")
    print("| stage | audio, s | s | audio s per s |\n|---|---:|---:|---:|")
    for stage, found in stages.items():
        cells = (found["audio_seconds"], found["seconds"], found["audio_seconds_per_second"])
        print(f"| {stage} | " + " | ".join(f"{x:.1f}" for x in cells) + " |")
    results.finish()


if __name__ == "__main__":
    main()
