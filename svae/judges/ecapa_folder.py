"""speechbrain's folders of an ECAPA-TDNN, read without running anything in them.

speechbrain itself builds what `hyperparams.yaml` says, which may be any object of any module, called with any arguments. Here the
sizes of the network come from the shapes of its weights, and of the YAML only numbers are read, out of the sections named below.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from svae.errors import ConfigError
from svae.runtime.text_files import read_utf8

WEIGHTS, HYPERPARAMS = "embedding_model.ckpt", "hyperparams.yaml"
NEW = "!new:"
SECTIONS = {
    "embedding_model": "speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN",
    "compute_features": "speechbrain.lobes.features.Fbank",
    "mean_var_norm": "speechbrain.processing.features.InputNormalization",
}
"""What an embedding is computed by, and the classes that are known for it."""
NOT_IN_SHAPES = ("dilations", "dropout")
"""Arguments of the network that its weights do not tell."""
NO_MATTER = ("activation", "device", "groups")
"""Arguments that are left at speechbrain's own values; other groups do not fit the shapes."""


class SpeechBrainNetwork(nn.Module):
    """What speechbrain's `EncoderClassifier.encode_batch` computes."""

    def __init__(self, embedding_model: Any, features: Any, normalize: Any) -> None:
        super().__init__()
        self.embedding_model = embedding_model
        self.features = features
        self.normalize = normalize

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return embeddings (B, 1, E) of waveforms (B, S) at 16 kHz, all of one length."""
        whole = torch.ones(waveforms.shape[0], device=waveforms.device)
        features = self.normalize(self.features(waveforms), whole)
        return self.embedding_model(features, whole)


def read_network(weights: Path, hyperparams: Path) -> SpeechBrainNetwork:
    """Build the network of a folder.

    Raises:
        ConfigError: weights that are not those of an ECAPA-TDNN, or a YAML that asks for more than is known here.
        OSError, RuntimeError, ValueError: files that are missing or damaged.
    """
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.processing.features import InputNormalization

    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # pickle and zip errors: all say that it is something else
        raise ConfigError(
            f"{weights}: cannot be loaded as weights alone ({type(error).__name__}); nothing else is run"
        ) from None
    said = read_sections(hyperparams)
    network = sizes_of(state, weights)
    for name, value in said["embedding_model"].items():
        if name in NO_MATTER:
            continue
        if name not in (*network, *NOT_IN_SHAPES):
            raise ConfigError(f"{hyperparams}: embedding_model: {name} is not known here")
        if name in network and network[name] != value:
            raise ConfigError(
                f"{hyperparams}: embedding_model: {name} {value!r}, but the weights of {weights.name} have {network[name]!r}"
            )
        network[name] = value
    features = {"n_mels": network["input_size"]} | said["compute_features"]
    if features["n_mels"] != network["input_size"]:
        raise ConfigError(
            f"{hyperparams}: compute_features: n_mels {features['n_mels']}, but the network takes {network['input_size']}"
        )
    normalize = {"norm_type": "sentence", "std_norm": False} | said["mean_var_norm"]
    try:
        model = ECAPA_TDNN(**network)
        model.load_state_dict(state)
        return SpeechBrainNetwork(model, Fbank(**features), InputNormalization(**normalize))
    except (TypeError, AssertionError) as error:
        raise ConfigError(f"{hyperparams}: not what speechbrain's classes take: {error}") from None


def sizes_of(state: Any, weights: Path) -> dict[str, Any]:
    """Return the arguments of ECAPA_TDNN that the shapes of its weights tell.

    Raises:
        ConfigError: they are those of something else.
    """
    try:
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        blocks = 1 + max(
            int(found[1]) for n in shapes if (found := re.match(r"blocks\.(\d+)\.", n))
        )
        first = shapes["blocks.0.conv.conv.weight"]
        branches = [
            n
            for n in shapes
            if re.fullmatch(r"blocks\.1\.res2net_block\.blocks\.\d+\.conv\.conv\.weight", n)
        ]
        inner = [f"blocks.{i}.res2net_block.blocks.0.conv.conv.weight" for i in range(1, blocks)]
        outer = [f"blocks.{i}.tdnn1.conv.conv.weight" for i in range(1, blocks)]
        last = shapes["mfa.conv.conv.weight"]
        attention = shapes["asp.tdnn.conv.conv.weight"]
        return {
            "input_size": first[1],
            "channels": [first[0], *(shapes[name][0] for name in outer), last[0]],
            "kernel_sizes": [first[2], *(shapes[name][2] for name in inner), last[2]],
            "attention_channels": attention[0],
            "res2net_scale": len(branches) + 1,
            "se_channels": shapes["blocks.1.se_block.conv1.conv.weight"][0],
            "global_context": attention[1] == 3 * last[0],
            "lin_neurons": shapes["fc.conv.weight"][0],
        }
    except (AttributeError, KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            f"{weights}: not the weights of speechbrain's ECAPA_TDNN ({type(error).__name__}: {error})"
        ) from None


def read_sections(path: Path) -> dict[str, dict[str, Any]]:
    """Return the plain values of the known sections of a hyperparams.yaml; nothing in it is built or called.

    Raises:
        ConfigError: another class stands there, or a value that is more than numbers, words and lists of them.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        root = YAML(typ="safe", pure=True).compose(read_utf8(path, str(path)))
        top = {key.value: node for key, node in root.value}
        found: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
        for name, known in SECTIONS.items():
            if name not in top:
                continue
            kind = _tag(top[name])
            if kind != NEW + known:
                raise ConfigError(f"{path}: {name} is {kind}; only {NEW}{known} is known here")
            for key, node in top[name].value:
                if not (name == "embedding_model" and key.value in NO_MATTER):
                    found[name][key.value] = _plain(node, top, f"{path}: {name}: {key.value}")
        return found
    except (YAMLError, AttributeError, TypeError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path}: cannot be read: {first}") from None


def _tag(node: Any) -> str:
    return str(getattr(node.tag, "value", None) or node.tag)


def _plain(node: Any, top: dict[str, Any], where: str, depth: int = 0) -> Any:
    """Return a number, word, truth value or list; `!ref <name>` is the value of that name."""
    kind = _tag(node).rpartition(":")[2] if _tag(node).startswith("tag:yaml.org") else _tag(node)
    if kind == "seq":
        return [_plain(part, top, where, depth) for part in node.value]
    if kind == "!ref" and depth < 8:
        name = re.fullmatch(r"<(\w+)>", node.value.strip())
        if name is not None and name[1] in top:
            return _plain(top[name[1]], top, where, depth + 1)
    readers = {
        "int": lambda text: int(text),
        "float": lambda text: float(text),
        "bool": lambda text: text.lower() == "true",
        "null": lambda text: None,
        "str": lambda text: text,
    }
    if kind not in readers or not isinstance(node.value, str):
        raise ConfigError(f"{where}: {kind} {node.value!r} is not read; expected a plain value")
    return readers[kind](node.value)
