"""F5-TTS's checkpoints as ours: the key map, sizes from shapes, refusals. More on exactness is in test_dit.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from svae.config import DiTConfig
from svae.errors import CheckpointError, DataError
from svae.importing.f5_tts import dit_state_from_f5, import_f5_tts
from svae.models.tts.dit import DiT
from svae.synthesis.load import load_tts

REFERENCE = DiTConfig(dim=128, depth=3, heads=2, text_dim=64, text_conv_layers=2)


def test_f5_key_map_is_strict_both_ways(shared: Path) -> None:
    weights = load_file(shared / "reference" / "f5_dit" / "weights.safetensors")
    expected = {name: tensor.shape for name, tensor in DiT(REFERENCE, 78, 64).state_dict().items()}
    assert {
        name: tensor.shape for name, tensor in dit_state_from_f5(weights, REFERENCE).items()
    } == expected
    total = sum(
        tensor.numel() for name, tensor in weights.items() if name != "rotary_embed.inv_freq"
    )
    assert sum(tensor.numel() for tensor in dit_state_from_f5(weights, REFERENCE).values()) == total

    fewer = {name: tensor for name, tensor in weights.items() if name != "proj_out.bias"}
    with pytest.raises(CheckpointError, match="missing .*proj_out.bias"):
        dit_state_from_f5(fewer, REFERENCE)
    with pytest.raises(CheckpointError, match="not expected .*long_skip"):
        dit_state_from_f5({**weights, "long_skip_connection.weight": torch.zeros(1)}, REFERENCE)
    with pytest.raises(CheckpointError, match="dit.heads"):
        dit_state_from_f5(weights, DiTConfig(**{**REFERENCE.__dict__, "heads": 4}))


# ------------------------------------------------------------------------------------------- the command


def to_f5(state: dict[str, torch.Tensor], cfg: DiTConfig) -> dict[str, torch.Tensor]:
    """Return our weights under F5-TTS's names, written down here apart from the map under test."""
    names = {
        "text_tower.embedding": "text_embed.text_embed",
        "input": "input_embed.proj",
        "output": "proj_out",
    }
    names |= {"output_modulation": "norm_out.linear", "time.hidden": "time_embed.time_mlp.0"}
    names |= {
        "time.output": "time_embed.time_mlp.2",
        "conv_position.convs.0": "input_embed.conv_pos_embed.conv1d.0",
    }
    names |= {"conv_position.convs.1": "input_embed.conv_pos_embed.conv1d.2"}
    inner = {
        "depthwise": "dwconv",
        "norm": "norm",
        "expand": "pwconv1",
        "contract": "pwconv2",
        "response": "grn",
    }
    for i in range(cfg.text_conv_layers):
        names |= {
            f"text_tower.blocks.{i}.{a}": f"text_embed.text_blocks.{i}.{b}"
            for a, b in inner.items()
        }
    inner = {"modulation": "attn_norm.linear", "expand": "ff.ff.0.0", "contract": "ff.ff.2"}
    inner |= {
        f"attention.{a}": f"attn.{b}" for a, b in (("output", "to_out.0"), ("q_norm", "q_norm"))
    }
    inner |= {"attention.k_norm": "attn.k_norm"}
    for i in range(cfg.depth):
        names |= {f"blocks.{i}.{a}": f"transformer_blocks.{i}.{b}" for a, b in inner.items()}
    official = {}
    for name, value in state.items():
        module, kind = name.rsplit(".", 1)
        if module.endswith("attention.qkv"):
            block = f"transformer_blocks.{module.split('.')[1]}.attn"
            official |= {
                f"{block}.to_{p}.{kind}": v for p, v in zip("qkv", value.chunk(3), strict=True)
            }
        else:
            official[f"{names[module]}.{kind}"] = (
                value[None, None] if kind in ("gamma", "beta") else value
            )
    return official


def write_vocabulary(path: Path, size: int, newline: str = "\n") -> Path:
    symbols = [" ", *(chr(ord("a") + i) for i in range(25)), *(f"pin{i}" for i in range(999))][
        :size
    ]
    path.write_bytes((newline.join(symbols) + newline).encode())
    return path


def write_f5(path: Path, official: dict[str, torch.Tensor], form: str = "safetensors") -> Path:
    prefixed = {
        f"ema_model.transformer.{name}": value.contiguous() for name, value in official.items()
    }
    counters = {"initted": torch.tensor(True), "step": torch.tensor(1250000)}
    if form == "safetensors":
        save_file(prefixed | counters, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    raw = {f"transformer.{name}": value + 1 for name, value in official.items()}
    window = {"ema_model.mel_spec.mel_stft.spectrogram.window": torch.hann_window(1024)}
    tree = {
        "ema_model_state_dict": prefixed | counters | window,
        "model_state_dict": raw,
        "update": 77,
    }
    torch.save(tree, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


@torch.no_grad()
@pytest.mark.parametrize("form", ["safetensors", "pt"])
def test_an_imported_checkpoint_computes_what_f5_computes(
    shared: Path, tmp_path: Path, form: str
) -> None:
    reference = shared / "reference" / "f5_dit"
    source = write_f5(tmp_path / "model", load_file(reference / "weights.safetensors"), form)
    vocab = write_vocabulary(tmp_path / "vocab.txt", 78, "\r\n" if form == "pt" else "\n")
    checkpoint = import_f5_tts(source, vocab, tmp_path / "out", vocoder="griffin-lim")
    assert checkpoint.step == (77 if form == "pt" else 1250000)
    tts = load_tts(tmp_path / "out")
    assert (
        tts.model.cfg.heads == 2 and tts.vocabulary.symbols[1] == "a" and tts.sample_rate == 24000
    )
    io = load_file(reference / "io.safetensors")
    found = tts.model(io["x"][:1].mT, io["cond"][:1].mT, io["time"][:1], io["text"][:1])
    assert (found.mT - io["velocity_single"]).abs().max() < 1e-4


VARIANTS = [
    {"qk_norm": True},
    {"text_conv_layers": 0},
    {"dim": 96, "heads": 3, "depth": 3, "ff_mult": 4, "text_dim": 24, "text_conv_mult": 3},
    {"conv_pos_groups": 8, "conv_pos_kernel": 5, "qk_norm": True},
]


@torch.no_grad()
@pytest.mark.parametrize("changes", VARIANTS, ids=lambda changes: "-".join(changes))
def test_sizes_are_read_off_the_tensors_and_all_weights_come_back(
    changes: dict[str, int], tmp_path: Path
) -> None:
    cfg = DiTConfig(
        **{"dim": 64, "heads": 2, "depth": 2, "text_dim": 16, "text_conv_layers": 1} | changes
    )
    torch.manual_seed(1)
    model = DiT(cfg, 30, 100).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    source = write_f5(tmp_path / "model", to_f5(model.state_dict(), cfg))
    heads = (
        None if cfg.qk_norm else cfg.heads
    )  # nothing but a norm's width tells it: there are no rotary frequencies here
    import_f5_tts(source, write_vocabulary(tmp_path / "v.txt", 30), tmp_path / "out", heads=heads)
    found = load_tts(tmp_path / "out").model
    assert found.cfg == cfg
    assert all(
        torch.equal(found.state_dict()[name], value) for name, value in model.state_dict().items()
    )


def test_raw_weights_are_imported_where_asked_for(shared: Path, tmp_path: Path) -> None:
    weights = load_file(shared / "reference" / "f5_dit" / "weights.safetensors")
    del weights["rotary_embed.inv_freq"]
    source, vocab = (
        write_f5(tmp_path / "model", weights, "pt"),
        write_vocabulary(tmp_path / "v.txt", 78),
    )
    import_f5_tts(source, vocab, tmp_path / "out", ema=False)
    bias = load_tts(tmp_path / "out").model.output.bias
    assert torch.equal(bias, weights["proj_out.bias"] + 1)
    flat = write_f5(tmp_path / "flat", weights)
    with pytest.raises(CheckpointError, match="leave out --no-ema"):
        import_f5_tts(flat, vocab, tmp_path / "other", ema=False)


def test_what_is_not_an_f5_checkpoint_is_refused(shared: Path, tmp_path: Path) -> None:
    weights = load_file(shared / "reference" / "f5_dit" / "weights.safetensors")
    vocab, out = write_vocabulary(tmp_path / "v.txt", 78), tmp_path / "out"

    def refuses(tensors: dict[str, torch.Tensor], match: str, **options: object) -> None:
        with pytest.raises((CheckpointError, DataError), match=match):
            import_f5_tts(write_f5(tmp_path / "model", tensors), vocab, out, **options)
        assert not out.exists()

    refuses(weights | {"long_skip_connection.weight": torch.zeros(2)}, "not expected .*long_skip")
    refuses(
        {name: w for name, w in weights.items() if "blocks.1.attn.to_q" not in name},
        "missing .*to_q",
    )
    refuses({"layers.0.weight": torch.zeros(2)}, "UNetT")
    refuses(weights | {"proj_out.bias": torch.zeros(63)}, r"output.bias: \(63,\), expected \(64,\)")
    refuses(weights | {"proj_out.bias": torch.full((64,), torch.nan)}, "NaN")
    refuses(weights, "do not divide|dit.heads", heads=3)
    write_vocabulary(vocab, 77)
    refuses(weights, "77 symbols, but .* 79 rows")
    vocab.write_text("a\n \n")
    refuses(weights, "first symbol must be the space")
    with pytest.raises(CheckpointError, match="no such file"):
        import_f5_tts(tmp_path / "absent.pt", vocab, out)
    save_file(
        {"ema_model.mel_spec.mel_stft.spectrogram.window": torch.ones(1024)},
        tmp_path / "w.safetensors",
    )
    with pytest.raises(CheckpointError, match="not that of mel frames"):
        import_f5_tts(tmp_path / "w.safetensors", vocab, out)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_imported(shared: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    weights = load_file(shared / "reference" / "f5_dit" / "weights.safetensors")
    # As the official code has them: width 128 and 2 heads make 64 dimensions a head.
    weights["rotary_embed.inv_freq"] = 10000.0 ** (-torch.arange(0, 64, 2).float() / 64)
    source = write_f5(
        tmp_path / "model", {name: value.to(dtype) for name, value in weights.items()}
    )
    vocab = write_vocabulary(tmp_path / "vocab.txt", 78)
    import_f5_tts(source, vocab, tmp_path / "out", vocoder="griffin-lim")
    assert load_tts(tmp_path / "out").model.cfg.heads == 2


def test_an_imported_checkpoint_whose_symbols_are_syllables_speaks_chinese(
    shared: Path, tmp_path: Path
) -> None:
    """As F5-TTS's released vocabulary is: letters and pinyin. What the network is asked for is F5-TTS's own sequence."""
    weights = load_file(shared / "reference" / "f5_dit" / "weights.safetensors")
    vocab = write_vocabulary(tmp_path / "vocab.txt", 74)
    with vocab.open("a", encoding="utf-8") as file:
        file.write("ni2\nhao3\nshi4\njie4\n")
    import_f5_tts(
        write_f5(tmp_path / "model", weights), vocab, tmp_path / "out", vocoder="griffin-lim"
    )
    tts = load_tts(tmp_path / "out").in_language("zh")
    symbols = [" ", "ni2", " ", "hao3", "，", " ", "shi4", " ", "jie4"]
    ids = {symbol: i for i, symbol in enumerate(tts.vocabulary.symbols)}
    assert tts.vocabulary.encode("你好，世界") == [ids.get(symbol, 0) for symbol in symbols]
    prompt = 0.1 * torch.randn(1, 24000, generator=torch.Generator().manual_seed(0))
    spoken = tts.synthesize("世界，你好。", prompt, "你好，世界。", num_steps=2, seed=0)
    assert spoken.shape[:2] == (1, 1) and spoken.abs().max() > 0 and spoken.isfinite().all()
