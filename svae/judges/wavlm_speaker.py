"""SIM-o: the WavLM-large + ECAPA-TDNN speaker encoder that published zero-shot similarities are measured with.

Its checkpoint (`wavlm_large_finetune.pth` of microsoft/UniSpeech, speaker verification) is given by path. Layer sizes
are read off its tensors. Its scores and those of other speaker models do not compare.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svae.audio import SPEECH_RATE
from svae.errors import ConfigError
from svae.judges.clips import long_enough_for_a_voice
from svae.runtime.files import file_sha256
from svae.runtime.pretrained import first_line

if TYPE_CHECKING:  # importing it takes seconds
    from transformers import WavLMModel

RES2_SCALE = 8
CONV_STRIDES = (5, 2, 2, 2, 2, 2, 2)
DILATIONS = (2, 3, 4)
_WAVLM_NAMES = (
    (r"feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (
        r"feature_extractor\.conv_layers\.(\d+)\.2\.1\.",
        r"feature_extractor.conv_layers.\1.layer_norm.",
    ),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^mask_emb$", "masked_spec_embed"),
    (
        r"encoder\.pos_conv\.0\.weight_g",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    ),
    (
        r"encoder\.pos_conv\.0\.weight_v",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
    ),
    (r"encoder\.pos_conv\.0\.bias", "encoder.pos_conv_embed.conv.bias"),
    (r"\.self_attn\.grep_linear\.", ".attention.gru_rel_pos_linear."),
    (r"\.self_attn\.grep_a$", ".attention.gru_rel_pos_const"),
    (r"\.self_attn\.relative_attention_bias\.", ".attention.rel_attn_embed."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.self_attn\.", ".attention."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
)
"""Names of the original WavLM → names in transformers."""
_ECAPA_NAMES = (
    (r"Conv1dReluBn1\.", "reduce."),
    (r"Conv1dReluBn2\.", "expand."),
    (r"Res2Conv1dReluBn\.", "res2."),
    (r"SE_Connect\.linear1\.", "squeeze."),
    (r"SE_Connect\.linear2\.", "excite."),
    (r"^pooling\.linear1\.", "attention.0."),
    (r"^pooling\.linear2\.", "attention.2."),
)


class ConvReluNorm(nn.Module):
    """Convolution, ReLU, then batch norm, in this order."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C', T)."""
        return self.bn(F.relu(self.conv(x)))


class Res2(nn.Module):
    """Channel groups in a chain: each is convolved together with the result of the one before; the last passes."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width = channels // RES2_SCALE
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
            for _ in range(RES2_SCALE - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(RES2_SCALE - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to the same shape."""
        *groups, last = x.chunk(RES2_SCALE, dim=1)
        done: list[Tensor] = []
        for group, conv, norm in zip(groups, self.convs, self.bns, strict=True):
            done.append(norm(F.relu(conv(group + done[-1] if done else group))))
        return torch.cat([*done, last], dim=1)


class Block(nn.Module):
    """Squeeze-excitation Res2 block with a residual."""

    def __init__(self, channels: int, dilation: int, bottleneck: int) -> None:
        super().__init__()
        self.reduce = ConvReluNorm(channels, channels)
        self.res2 = Res2(channels, dilation)
        self.expand = ConvReluNorm(channels, channels)
        self.squeeze = nn.Linear(channels, bottleneck)
        self.excite = nn.Linear(bottleneck, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to the same shape."""
        y = self.expand(self.res2(self.reduce(x)))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean(dim=2)))))
        return x + y * gate[:, :, None]


class EcapaOverWavLM(nn.Module):
    """ECAPA-TDNN on a softmax-weighted sum of WavLM's hidden states.

    Source: microsoft/UniSpeech `speaker_verification/models/ecapa_tdnn.py` (ECAPA_TDNN_SMALL, without global context).
    """

    def __init__(
        self,
        wavlm: WavLMModel,
        *,
        channels: int,
        wide: int,
        bottleneck: int,
        attention: int,
        dim: int,
    ) -> None:
        super().__init__()
        self.wavlm = wavlm
        self.feature_weight = nn.Parameter(torch.zeros(wavlm.config.num_hidden_layers + 1))
        self.layer1 = ConvReluNorm(wavlm.config.hidden_size, channels, kernel=5)
        self.layer2, self.layer3, self.layer4 = (Block(channels, d, bottleneck) for d in DILATIONS)
        self.conv = nn.Conv1d(3 * channels, wide, 1)
        self.attention = nn.Sequential(
            nn.Conv1d(wide, attention, 1), nn.Tanh(), nn.Conv1d(attention, wide, 1)
        )
        self.bn = nn.BatchNorm1d(2 * wide)
        self.linear = nn.Linear(2 * wide, dim)

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed 16 kHz waveforms (B, S) of equal length; return (B, E)."""
        # As s3prl prepares what WavLM-large hears.
        normal = F.layer_norm(waveform, waveform.shape[1:])
        states = torch.stack(self.wavlm(normal, output_hidden_states=True).hidden_states)
        mixed = torch.einsum("l,lbtc->bct", self.feature_weight.softmax(dim=0), states) + 1e-6
        x = self.layer1(F.instance_norm(mixed))
        outputs = []
        for block in (self.layer2, self.layer3, self.layer4):
            x = block(x)
            outputs.append(x)
        x = F.relu(self.conv(torch.cat(outputs, dim=1)))
        weights = self.attention(x).softmax(dim=2)
        mean = (weights * x).sum(dim=2)
        variance = (weights * x.square()).sum(dim=2) - mean.square()
        return self.linear(self.bn(torch.cat([mean, variance.clamp_min(1e-9).sqrt()], dim=1)))


def load_ecapa_over_wavlm(path: Path) -> EcapaOverWavLM:
    """Build the network whose sizes and weights a checkpoint holds.

    Raises:
        ConfigError: not such a checkpoint, or tensors are missing; what else it holds (a training loss) is ignored.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file. Expected wavlm_large_finetune.pth of microsoft/UniSpeech (--sim-o, --speaker wavlm-ecapa:FILE)."
        )
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        state: dict[str, Tensor] = stored["model"] if "model" in stored else stored
        names = {
            _rename(name): value.float()
            for name, value in state.items()
            if isinstance(value, Tensor)
        }
        model = _build(names)
        missing = model.load_state_dict(
            {k: v for k, v in names.items() if k in model.state_dict()}, strict=False
        )
    except Exception as error:  # pickle, zip, key and shape errors: all say that it is another file
        raise ConfigError(
            f"{path}: not a WavLM + ECAPA-TDNN checkpoint ({first_line(error)})"
        ) from None
    if missing.missing_keys:
        raise ConfigError(
            f"{path}: {len(missing.missing_keys)} tensors are missing, e.g. {missing.missing_keys[0]}"
        )
    return model.eval()


def _rename(name: str) -> str:
    prefix = "feature_extract.model."
    inside = name.startswith(prefix)
    name = name.removeprefix(prefix)
    for pattern, replacement in _WAVLM_NAMES if inside else _ECAPA_NAMES:
        name = re.sub(pattern, replacement, name)
    return f"wavlm.{name}" if inside else name


def _build(state: dict[str, Tensor]) -> EcapaOverWavLM:
    """Return the network with random weights in the sizes of a renamed state dict."""
    from transformers import WavLMConfig, WavLMModel

    convs = [
        state[f"wavlm.feature_extractor.conv_layers.{i}.conv.weight"]
        for i in range(len(CONV_STRIDES))
    ]
    position = state["wavlm.encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
    buckets, heads = state["wavlm.encoder.layers.0.attention.rel_attn_embed.weight"].shape
    layers = {
        int(m[1]) for name in state if (m := re.match(r"wavlm\.encoder\.layers\.(\d+)\.", name))
    }
    config = WavLMConfig(
        hidden_size=position.shape[0],
        num_hidden_layers=len(layers),
        num_attention_heads=heads,
        intermediate_size=state[
            "wavlm.encoder.layers.0.feed_forward.intermediate_dense.weight"
        ].shape[0],
        conv_dim=tuple(conv.shape[0] for conv in convs),
        conv_kernel=tuple(conv.shape[2] for conv in convs),
        conv_stride=CONV_STRIDES,
        conv_bias="wavlm.feature_extractor.conv_layers.0.conv.bias" in state,
        num_conv_pos_embeddings=position.shape[2],
        num_conv_pos_embedding_groups=position.shape[0] // position.shape[1],
        num_buckets=buckets,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        apply_spec_augment=False,
    )
    return EcapaOverWavLM(
        WavLMModel(config),
        channels=state["layer1.conv.weight"].shape[0],
        wide=state["conv.weight"].shape[0],
        bottleneck=state["layer2.squeeze.weight"].shape[0],
        attention=state["attention.0.weight"].shape[0],
        dim=state["linear.weight"].shape[0],
    )


class WavLMSpeaker:
    """Embeds clips one by one: padding would enter the norms and the pooling."""

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self._model = load_ecapa_over_wavlm(path).to(self.device)
        self.description: dict[str, Any] = {
            "spec": f"wavlm-ecapa:{path}",
            "speaker": "wavlm-ecapa",
            "model": path.name,
            "sha256": file_sha256(path),
            "transformers": metadata.version("transformers"),
        }

    @torch.inference_mode()
    def embed(self, waveforms: Sequence[Tensor], sample_rate: int = SPEECH_RATE) -> Tensor:
        """Return unit-length embeddings (N, E) of waveforms (S,)."""
        rows = []
        for waveform in waveforms:
            clip = long_enough_for_a_voice(waveform, sample_rate)
            rows.append(self._model(clip.to(self.device))[0].float().cpu())
        return F.normalize(torch.stack(rows), dim=-1)
