"""Small random speech models that hear log-mel frames, as folders that transformers writes and svae loads as teachers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers.models.seamless_m4t import SeamlessM4TFeatureExtractor
from transformers.models.wav2vec2_bert import Wav2Vec2BertConfig, Wav2Vec2BertModel
from transformers.models.whisper import WhisperConfig, WhisperFeatureExtractor, WhisperModel


def write_w2v_bert(folder: Path) -> nn.Module:
    """Write a w2v-BERT 2.0 of three layers and return it."""
    torch.manual_seed(0)
    config = Wav2Vec2BertConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        add_adapter=True,
        output_hidden_size=16,
    )
    model = Wav2Vec2BertModel(config).eval()
    model.save_pretrained(folder)
    SeamlessM4TFeatureExtractor().save_pretrained(folder)
    return model


def write_whisper(folder: Path, **settings: int) -> nn.Module:
    """Write a Whisper whose encoder has three layers, some settings otherwise, and return the encoder."""
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=16,
        encoder_layers=3,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        vocab_size=60,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **settings,
    )
    model = WhisperModel(config).eval()
    with torch.no_grad():
        for parameter in model.encoder.parameters():  # so that no norm is the identity
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return model.encoder
