"""Run by the interpreter that has omnilingual-asr, not by the tests' own: a small model of random weights, or what its pipeline hears.

tiny_omniasr.py make FOLDER            # the weights of the card that `write_card` has written there
tiny_omniasr.py hear LANGUAGE FILE…    # a text a line, as JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

CARD = """\
name: tiny_tokenizer
tokenizer_family: char_tokenizer
tokenizer: file://{folder}/tokenizer.model

---

name: tiny_llm
model_family: wav2vec2_llama
model_arch: 300m_unlimited_v2
checkpoint: file://{folder}/model.pt
tokenizer_ref: tiny_tokenizer
model_config:
  streaming_config: {{text_tokenizer: tiny_tokenizer}}
  llama_config:
    {{model_dim: 32, max_seq_len: 512, vocab_size: {size}, num_layers: 2, num_attn_heads: 2, num_key_value_heads: 2, ffn_inner_dim: 64}}
  wav2vec2_asr_config:
    target_vocab_size: {size}
    encoder_config:
      {{model_dim: 32, num_encoder_layers: 2, num_encoder_attn_heads: 2, ffn_inner_dim: 64, feature_dim: 32, pos_conv_kernel_size: 16,
       num_pos_conv_groups: 4, feature_extractor_layer_descs:
       [[32, 10, 5], [32, 3, 2], [32, 3, 2], [32, 3, 2], [32, 3, 2], [32, 2, 2], [32, 2, 2]]}}
"""


def write_card(folder: Path, size: int) -> None:
    """Write what fairseq2 finds the model and its tokenizer by."""
    (folder / "tiny.yaml").write_text(CARD.format(folder=folder, size=size))


def make(folder: str) -> None:
    """Write random weights."""
    import torch
    from fairseq2 import init_fairseq2
    from omnilingual_asr.models.wav2vec2_llama import get_wav2vec2_llama_model_hub

    init_fairseq2()
    torch.manual_seed(0)
    hub = get_wav2vec2_llama_model_hub()
    model = hub.create_new_model(hub.get_model_config("tiny_llm"))
    torch.save({"model": model.state_dict()}, f"{folder}/model.pt")


def hear(language: str, *files: str) -> None:
    """Print what the package hears, as k2-fsa/OmniVoice asks it."""
    from omnilingual_asr.models.inference.pipeline import ASRInferencePipeline

    pipeline = ASRInferencePipeline(model_card="tiny_llm", device="cpu")
    for text in pipeline.transcribe(list(files), lang=[language] * len(files), batch_size=1):
        print(json.dumps(text))


if __name__ == "__main__":
    {"make": make, "hear": hear}[sys.argv[1]](*sys.argv[2:])
