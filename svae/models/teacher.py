"""The frozen self-supervised speech model whose features the latents are aligned with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svae.assets import asset_path
from svae.config import TeacherConfig
from svae.errors import ConfigError, DataError
from svae.frames import interpolate_frames, teacher_positions
from svae.runtime.distributed import send
from svae.runtime.pretrained import load_pretrained, quiet_transformers

WAVEFORM_TYPES = ("wavlm", "hubert", "wav2vec2")
FILTERBANK_TYPES = ("wav2vec2-bert",)
WHISPER_TYPES = ("whisper",)
FILTERBANK_WINDOW, FILTERBANK_HOP = 400, 160
"""Samples of a log-mel window and between windows in transformers' SeamlessM4T feature extractor (25 and 10 ms)."""
OFFLINE_ADVICE = "Without a network use `teacher.model: embedded` (with its `layer`), or a local transformers folder."


def frame_geometry(config: Any, stacked: int = 1) -> tuple[int, int]:
    """Return hop and receptive field, in samples, of one frame of a transformers speech encoder.

    Frame k is computed from samples hop * k to hop * k + receptive field - 1 (before attention mixes frames). Whisper's
    frames are centred on sample hop * k itself, by reflection at the ends: as if they saw that sample alone.

    `stacked` are, for w2v-BERT, the consecutive log-mel frames that make one input frame.
    """
    if config.model_type in FILTERBANK_TYPES:
        return FILTERBANK_HOP * stacked, FILTERBANK_WINDOW + FILTERBANK_HOP * (stacked - 1)
    if config.model_type in WHISPER_TYPES:
        # Log-mel frames are centred on every 160th sample; the second convolution takes every second one.
        return 2 * FILTERBANK_HOP, 1
    hop, receptive_field = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        receptive_field += (kernel - 1) * hop
        hop *= stride
    return hop, receptive_field


class WhisperStates(nn.Module):
    """Whisper's encoder on as many frames as there are, in place of always 30 seconds.

    Padded silence is no speech, and most of the work.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.config = encoder.config

    def forward(self, features: Tensor, output_hidden_states: bool = False) -> SimpleNamespace:
        """Map log-mel frames (B, bands, 2 K) to states (B, K, hidden_size): what enters the layers, then each one's output.

        Raises:
            DataError: there are more than the model has places for.
        """
        encoder = self.encoder
        x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(features)))).transpose(1, 2)
        positions = encoder.embed_positions.weight
        if x.shape[1] > len(positions):
            raise DataError(
                f"Whisper hears at most {len(positions) / 50:g} seconds at once, got {x.shape[1] / 50:g}; take shorter "
                "utterances or crops, or another teacher"
            )
        states = [x + positions[: x.shape[1]]]
        for layer in encoder.layers:
            states.append(layer(states[-1], None))
        last = encoder.layer_norm(states[-1])
        return SimpleNamespace(
            last_hidden_state=last, hidden_states=states if output_hidden_states else None
        )


class Teacher:
    """A speech encoder cut off after the chosen layer. Not a module: it is never trained, saved or wrapped.

    Args:
        model: transformers encoder whose `last_hidden_state` is the chosen layer.
        extractor: Its feature extractor, which says how the input is normalised.
        description: What was loaded, for printing.
        average: Give the mean over the outputs of all of the model's layers instead.
    """

    def __init__(
        self, model: Any, extractor: Any, description: str, *, average: bool = False
    ) -> None:
        self.model = model
        self.average = average
        self.extractor = extractor
        self.description = description
        self.feature_dim: int = model.config.hidden_size
        self.device: torch.device = next(model.parameters()).device
        self.sample_rate: int = extractor.sampling_rate
        self.hop_length, self.receptive_field = frame_geometry(
            model.config, getattr(extractor, "stride", 1)
        )
        self.max_samples: int | None = None
        """Of a waveform, where there is a limit: Whisper has places for thirty seconds."""
        if model.config.model_type in WHISPER_TYPES:
            self.max_samples = model.config.max_source_positions * self.hop_length

    @property
    def hears_on_host(self) -> bool:
        """Whether its feature extractor computes on the host, whatever the model does."""
        return self.model.config.model_type in FILTERBANK_TYPES + WHISPER_TYPES

    @torch.no_grad()
    def features(self, waveform: Tensor) -> Tensor:
        """Return the layer's features (B, K, feature_dim), float32, of a waveform (B, 1, S) at the teacher's rate.

        The features are on the model's device; the waveform may be on the host.

        Each item is normalised over its whole length as the checkpoint's feature extractor does it: to zero mean and
        unit variance, or not, or (w2v-BERT) per mel band, or (Whisper) by its loudest mel frame. On a CPU the teacher
        computes in float32 also within autocast.
        """
        if self.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # oneDNN's bfloat16 convolution is wrong for some widths of groups and kernels (torch 2.11, processors
            # with AMX): the embedded teacher's positional one (192 channels, 16 groups, kernel 32) has a cosine of
            # 0.1 to the true result.
            with torch.autocast("cpu", enabled=False):
                return self.features(waveform)
        x = waveform.float().squeeze(1)
        if not self.hears_on_host:
            x = send(x, self.device)
        if x.shape[-1] < self.receptive_field:
            raise ValueError(
                f"the teacher needs at least {self.receptive_field} samples, got {x.shape[-1]}"
            )
        if self.model.config.model_type in FILTERBANK_TYPES:
            # Whole stacks of log-mel frames only, so that nothing is padded and no attention mask is needed.
            hops = (x.shape[-1] - self.receptive_field) // self.hop_length
            x = x[:, : hops * self.hop_length + self.receptive_field]
            inputs = self._log_mel(x, return_attention_mask=False)
        elif self.model.config.model_type in WHISPER_TYPES:
            inputs = self._log_mel(x, padding="longest", truncation=False)
        elif self.extractor.do_normalize:
            variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
            inputs = (x - mean) * torch.rsqrt(variance + 1e-7)
        else:
            inputs = x
        if not self.average:
            return self.model(inputs).last_hidden_state.float()
        states = self.model(inputs, output_hidden_states=True).hidden_states[1:]
        return torch.stack([state.float() for state in states]).mean(dim=0)

    def _log_mel(self, x: Tensor, **options: Any) -> Tensor:
        """Return what the feature extractor makes of waveforms (B, S)."""
        clips = list(x.cpu().numpy())
        made = self.extractor(clips, sampling_rate=self.sample_rate, return_tensors="pt", **options)
        return send(made["input_features"], self.device)

    @torch.no_grad()
    def aligned_features(
        self, waveform: Tensor, context_samples: int, num_frames: int, hop_length: int
    ) -> Tensor:
        """Return one teacher feature per latent frame, (B, num_frames, feature_dim), without gradient.

        The features are interpolated linearly between the two teacher frames around the centre of each latent frame
        (`svae.frames`). The official code stretches the teacher's frames over the crop instead, off by up to a
        frame and by the random start of the crop.

        Args:
            waveform: (B, 1, context_samples + crop + context_samples), real audio on both sides of the crop.
            context_samples: Samples before (and after) the crop.
            num_frames: Latent frames of the crop.
            hop_length: Samples per latent frame.
        """
        features = self.features(waveform)
        positions = teacher_positions(
            context_samples,
            num_frames,
            hop_length=hop_length,
            teacher_hop=self.hop_length,
            receptive_field=self.receptive_field,
        )
        return interpolate_frames(features, positions)


def load_teacher(
    cfg: TeacherConfig, device: str | torch.device = "cpu", *, sample_rate: int = 16000
) -> Teacher:
    """Load a teacher: WavLM, HuBERT, wav2vec2 (raw waveform), w2v-BERT 2.0 or Whisper's encoder (log-mel), without any head.

    `cfg.layer` 0 is what enters the first transformer layer, n the output of layer n, -1 the last, `average` the mean
    of all outputs. Layers above the chosen one are not built.

    Source: Semantic-VAE (arXiv 2509.22167) aligns with WavLM-large and names layer 23; its script extracts -1.

    Raises:
        ConfigError: nothing loadable under that name, another kind of model, a layer or rate it does not have.
    """
    where = f"teacher.model {cfg.model!r}"
    source = str(asset_path("teacher")) if cfg.model == "embedded" else cfg.model
    model, extractor, depth = load_pretrained(
        lambda local: _load(source, cfg.layer, where, local_files_only=local),
        source,
        option=where,
        offline=OFFLINE_ADVICE,
        probe="config.json",
    )
    if extractor.sampling_rate != sample_rate:
        raise ConfigError(
            f"{where}: it hears {extractor.sampling_rate} Hz, but the VAE runs at {sample_rate} Hz"
        )
    average = cfg.layer == "average"
    config = model.config
    layers = (
        f"average of {depth} layers" if average else f"layer {config.num_hidden_layers} of {depth}"
    )
    description = f"{cfg.model} ({config.model_type}), {layers}, {config.hidden_size} wide"
    model = model.to(device).eval().requires_grad_(False)
    return Teacher(model, extractor, description, average=average)


def _load(
    source: str, layer: int | str, where: str, *, local_files_only: bool
) -> tuple[Any, Any, int]:
    """Return the encoder cut off after `layer`, its feature extractor, and how many layers it has in full."""
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

    config = AutoConfig.from_pretrained(source, local_files_only=local_files_only)
    if config.model_type not in (kinds := WAVEFORM_TYPES + FILTERBANK_TYPES + WHISPER_TYPES):
        known = ", ".join(kinds)
        raise ConfigError(f"{where}: a {config.model_type} model; teachers can be {known}")
    depth = config.num_hidden_layers
    number = depth if isinstance(layer, str) else layer
    if not -depth - 1 <= number <= depth:
        raise ConfigError(
            f"teacher.layer {number}: {source} has {depth} layers; use 0 to {depth}, or -1 for the last"
        )
    # Cut off here, `last_hidden_state` is transformers' `hidden_states[layer]`, but for the last layer of models that
    # normalise before each layer (`do_stable_layer_norm`, e.g. WavLM-large): there, 24 or -1 has passed the encoder's
    # final LayerNorm, while 23 is the raw residual stream. `hidden_states[-1]` is the normalised state in
    # transformers 4 and the raw one in 5, so it is not used.
    config.num_hidden_layers = number if number >= 0 else depth + 1 + number
    if config.model_type in WHISPER_TYPES:
        config.decoder_layers = 0
    config.add_adapter = False
    config.use_intermediate_ffn_before_adapter = False
    with quiet_transformers():
        extractor = AutoFeatureExtractor.from_pretrained(source, local_files_only=local_files_only)
        model, info = AutoModel.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            local_files_only=local_files_only,
            # transformers looks for an adapter beside the model, and would ask the hub for it.
            adapter_kwargs={"local_files_only": local_files_only},
            output_loading_info=True,
        )
    if config.model_type in WHISPER_TYPES:
        if config.num_hidden_layers < depth:
            model.encoder.layer_norm = nn.Identity()  # normalises the last layer's output only
        model = WhisperStates(model.encoder)
    # Training only.
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("masked_spec_embed"))
    if missing:
        raise ConfigError(
            f"{where}: weights are missing ({len(missing)}): {', '.join(missing[:4])}"
        )
    if getattr(config, "do_stable_layer_norm", False) and config.num_hidden_layers < depth:
        model.encoder.layer_norm = torch.nn.Identity()  # normalises the last layer's output only
    return model, extractor, depth
