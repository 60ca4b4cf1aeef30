"""Every recipe field and its bounds, as frozen dataclasses. This module imports no other of the package.

A recipe (YAML) says only what differs from the defaults below; `svae.recipe.load` turns it into one of
`VAETrainConfig` or `TTSTrainConfig`. The defaults of the model sections are the published ones
(Semantic-VAE, arXiv 2509.22167; F5-TTS v1 Small, arXiv 2410.06885).

The bounds of a number stand in its type, as `Annotated[int, Gt(0)]`; pydantic checks them when a recipe or a
checkpoint's configuration is read. What several fields decide together, `svae.recipe` checks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

Precision = Literal["fp32", "bf16"]
"""Arithmetic of the networks. Losses, spectra, EMA and master weights stay in float32 either way."""

Fraction = Annotated[float, Ge(0), Le(1)]
"""A share, a probability, or a factor that makes nothing larger."""


# ----------------------------------------------------------------------------------------------- data


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One of several folders of shards that are trained on together."""

    root: str
    """Folder with `index.json`."""
    weight: Annotated[float, Gt(0)] | None = None
    """How much of what is read comes from here, in proportion to the other weights. null for all: their hours."""
    language: str | None = None
    """The language of all its utterances. null: what the folder says of each."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the shards are."""

    root: str | None = None
    """Folder with `index.json`, written by `svae prepare` (or, for train-tts, by `svae encode`)."""
    sources: tuple[SourceConfig, ...] = ()
    """Several such folders in place of `root`, each read in its proportion, by frames."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """With `sources`: each weight to the power 1 / temperature. Above 1, small sources get more; large: all alike."""
    validation_root: str | None = None
    """Another such folder, used whole for validation. null: the utterances that `svae prepare` held out of `root`, or of each
    of the `sources`."""
    slots: Annotated[int, Gt(0)] = 1
    """The shards are dealt to so many slots, of which a step's batch takes in turn. train-tts: as many parts of
    `batch_frames`, each of utterances of similar length; at most processes times pieces of each. Decides the data order."""


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How shards are read."""

    num_workers: Annotated[int, Ge(0)] = 2
    """Reader processes per rank; 0 reads in the training process."""
    shuffle_shards: Annotated[int, Gt(0)] = 16
    """Utterances are shuffled within a window of this many shards; the order of the shards is shuffled too."""
    prefetch: Annotated[int, Gt(0)] = 4
    """Batches that each worker prepares ahead."""


# ----------------------------------------------------------------------------------------------- optimisation


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW and its schedule. The learning rate is a function of the step alone."""

    learning_rate: Annotated[float, Gt(0)] = 1e-4
    betas: tuple[Fraction, Fraction] = (0.8, 0.99)
    eps: Annotated[float, Gt(0)] = 1e-8
    weight_decay: Annotated[float, Ge(0)] = 0.01
    max_grad_norm: Annotated[float, Gt(0)] = 10.0
    """Gradients are scaled down to this total 2-norm."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Steps of linear warm-up from 0."""
    schedule: Literal["constant", "exponential", "linear"] = "exponential"
    """After warm-up: constant, times `decay` a step, or linear down to 0 at the last step."""
    decay: Fraction = 0.999996
    """Factor a step of the exponential schedule."""


@dataclass(frozen=True, kw_only=True)
class EMAConfig:
    """Exponential moving average of the weights: decay = min(decay, 1 - (1 + step - start_step) ** -power)."""

    decay: Fraction = 0.9999
    power: Fraction = 2 / 3
    start_step: Annotated[int, Ge(0)] = 100
    """Up to here the average is a copy of the weights."""
    every: Annotated[int, Gt(0)] = 10
    """Steps between updates; the decay applies once per update."""


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """What the VAE and the TTS loop have in common."""

    steps: Annotated[int, Gt(0)]
    """Optimizer steps of the whole run."""
    seed: Annotated[int, Ge(0), Lt(2**63)] = 0
    precision: Precision = "fp32"
    tf32: Literal["none", "convolutions", "all"] = "convolutions"
    """On a GPU, which products of float32 are computed in TF32: 10 bits of mantissa, several times as fast. Convolutions alone
    is torch's default, which the official codes of Semantic-VAE and F5-TTS leave. What is bf16 stays so."""
    cudnn_benchmark: bool = False
    """On a GPU, let cuDNN try its algorithms at every new shape. Semantic-VAE's official code does, which pays as its crops are of
    one length; F5-TTS's does not, whose batches have lengths of their own."""
    accumulate: Annotated[int, Gt(0)] | Literal["auto"] = 1
    """Pieces of each process's share of a step, whose gradients are added up one after the other: the global batch, losses and
    order of the data stay the same, memory shrinks. auto: the fewest that fit into the memory of the GPU; on a CPU, as few as
    the data allow."""
    checkpoint_activations: bool = False
    """Compute what a block keeps for its gradients a second time instead of keeping it: a third more time, several times less
    memory. Losses stay the same, bit for bit."""
    compile: bool = False
    """Compile the networks with torch.compile (slow first steps, faster afterwards; meant for GPUs)."""
    log_every: Annotated[int, Gt(0)] = 50
    """Steps between rows of metrics.jsonl."""
    validate_every: Annotated[int, Gt(0)] = 1000
    naturalness: Literal["none", "distillmos"] = "none"
    """Who predicts how natural the VAE's validation crops, or the TTS's `synthesize_every`, sound (1 to 5; needs svae[mos])."""
    checkpoint_every: Annotated[int, Gt(0)] = 5000
    keep_checkpoints: Annotated[int, Gt(0)] = 3
    """Newest checkpoints kept with their training state; older ones are deleted."""
    collective_minutes: Annotated[float, Gt(0)] = 30.0
    """A rank that waits longer than this for the others ends the job: longer than validation and judging take on rank 0."""
    max_nonfinite_steps: Annotated[int, Ge(0)] = 10
    """Steps with a non-finite loss or gradient are skipped on all ranks; more than this many in a row stop the run."""


# ----------------------------------------------------------------------------------------------- VAE


@dataclass(frozen=True, kw_only=True)
class BigVGANConfig:
    """BigVGAN generator, used as the VAE's decoder (arXiv 2206.04658)."""

    upsample_rates: tuple[Annotated[int, Gt(0)], ...] = (5, 5, 2, 2, 2, 2)
    """Product (times `istft_hop`) = hop length of the VAE."""
    upsample_kernel_sizes: tuple[int, ...] = (9, 9, 4, 4, 4, 4)
    initial_channels: Annotated[int, Gt(0)] = 1024
    """Channels before the first upsampling; halved at each stage."""
    resblock: Literal["1", "2"] = "1"
    """AMPBlock1 (pairs of a dilated and a plain convolution) or AMPBlock2 (dilated only)."""
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    activation: Literal["snake", "snakebeta"] = "snakebeta"
    snake_logscale: bool = True
    tanh_at_final: bool = False
    """tanh at the output; otherwise the output is clamped to [-1, 1]."""
    bias_at_final: bool = False
    istft_hop: int = 0
    """0: BigVGAN. Otherwise (even) an inverse STFT of this hop, with a window of four hops, stands for the last upsampling,
    as in iSTFTNet (arXiv 2203.02395): several times less to compute, which small models on a CPU need."""
    anti_aliasing: bool = True
    """Filter around each activation. false, with `istft_hop`: frames of a spectrum cannot alias; half the time on a CPU."""
    linear_path: bool = False
    """With `istft_hop`: a linear map of the latents is added to the log magnitudes, at first the training data's regression
    (after `init` with another decoder: random)."""

    @property
    def hop_length(self) -> int:
        """Samples that one latent frame becomes."""
        return math.prod(self.upsample_rates) * (self.istft_hop or 1)


@dataclass(frozen=True, kw_only=True)
class SourceFilterConfig:
    """Decoder of pulses and noise through learned filters (neural homomorphic vocoder, svae/models/vae/source_filter.py).

    A small VAE's way to speech that is worth listening to, as harmonics and phases need not be learned.
    """

    hop: Annotated[int, Gt(0)] = 100
    """Samples between frames of the filters, even."""
    rate: Annotated[int, Gt(0)] = 4
    """Frames of the filters per latent frame, even; times `hop` = hop length of the VAE."""
    channels: Annotated[int, Gt(0)] = 256
    blocks: Annotated[int, Gt(0)] = 6
    """ConvNeXt blocks at the frame rate of the filters."""
    kernel_size: Annotated[int, Gt(0)] = 7
    expansion: Annotated[int, Gt(0)] = 3
    """Width of a block's inner layer, times `channels`."""
    phase_terms: Annotated[int, Gt(0)] = 48
    """Sine series over frequency by which the pulses' phase may differ from minimum phase."""
    pitch_range: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (50.0, 550.0)
    """Hz."""
    pitch_bins: Annotated[int, Gt(0)] = 128
    """Pitch is predicted as one of so many classes, equally spaced on the logarithmic scale."""

    @property
    def hop_length(self) -> int:
        """Samples that one latent frame becomes."""
        return self.hop * self.rate


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """The speech VAE: DAC encoder, causal attention projection, diagonal Gaussian posterior, BigVGAN (or another) decoder."""

    sample_rate: Annotated[int, Gt(0)] = 16000
    latent_dim: Annotated[int, Gt(0)] = 64
    encoder_channels: Annotated[int, Gt(0)] = 64
    """Channels after the first convolution; doubled by each block."""
    encoder_strides: tuple[Annotated[int, Gt(0)], ...] = (4, 4, 5, 5)
    """Product (times `encoder_mel_hop`) = hop length in samples (400 = 40 Hz at 16 kHz)."""
    encoder_mel_hop: int = 0
    """0: DAC's encoder, from the waveform. Otherwise (even) the encoder's first convolution reads log-mel frames of this
    hop, with a window of four hops: a tenth of the work, and less to learn, which small models on a CPU need."""
    encoder_mel_bands: Annotated[int, Gt(0)] = 80
    """With `encoder_mel_hop`."""
    encoder_pitch_window: Annotated[int, Ge(0)] = 0
    """With `encoder_mel_hop`: the encoder also reads the spectrum below 1 kHz of a window of this many samples (even), long
    enough to tell harmonics apart. 0: it does not."""
    encoder_linear_path: bool = False
    """With `encoder_mel_hop` and `decoder.linear_path`: a linear map of a frame's log-mels is added to the posterior's mean.
    It starts as the training data's principal components: the networks learn in minutes what else takes them hours."""
    encoder_linear_latents: Annotated[int, Ge(0)] = 0
    """With `encoder_linear_path`: so many latents start as principal components. The others are left to the networks from the
    start, for what log-mels do not say, such as the pitch. 0: all."""
    attention_heads: Annotated[int, Gt(0)] = 8
    attention_mlp_ratio: Annotated[int, Gt(0)] = 2
    initial_gain: Annotated[float, Gt(0)] = 1.0
    """Factor on the convolutions' magnitudes before the first step; other than 1 it also zeroes their biases.

    PyTorch's default initialisation, which the official code has, shrinks a signal by sqrt(3) in every layer, so that a
    deep network starts out knowing little of its input. sqrt(3) undoes that, which short runs need; the last convolution
    gets a tenth of it, for an output of speech's loudness."""
    initial_logvar: float = 0.0
    """Where the posterior's log-variance starts. Negative: short runs learn to reconstruct before they meet much noise."""
    latent_noise: Annotated[float, Gt(0)] | None = None
    """Noise in place of a learned posterior (F3-Tokenizer, arXiv 2606.06357): each frame's latents are brought to zero mean and unit
    deviation over channels, and training decodes them with Gaussian noise of this deviation. Needs loss.kl: 0."""
    anchored_latents: Annotated[int, Ge(0)] = 0
    """The first so many latents are a frozen stream: the encoder learns to say in them what the teacher says (the principal
    components of its features), and no loss of reconstruction shapes them; the others are the acoustic residue (SARA, arXiv
    2606.11611). Needs a teacher and loss.alignment_form: mse."""
    regulator_layers: Annotated[int, Ge(0)] = 2
    """Convolution stages of the regulator that projects teacher features; 0 = a single 1x1 convolution."""
    decoder: BigVGANConfig = field(default_factory=BigVGANConfig)
    source_filter: SourceFilterConfig | None = None
    """Another decoder in place of `decoder`. null: BigVGAN."""

    @property
    def linear_path(self) -> bool:
        """Whether linear maps stand beside encoder and decoder."""
        return self.encoder_linear_path

    @property
    def hop_length(self) -> int:
        """Samples that one latent frame is made of."""
        return math.prod(self.encoder_strides) * (self.encoder_mel_hop or 1)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Multi-period and multi-resolution multi-band discriminators of the Descript Audio Codec (arXiv 2306.06546)."""

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    fft_sizes: tuple[int, ...] = (2048, 1024, 512)
    spectral_channels: int = 32
    spectral_input: Literal["complex", "log-magnitude"] = "complex"
    """What of the short-time spectrum is judged. log-magnitude: no phases, and quiet bands count as much as loud ones, so that
    small discriminators learn in minutes; for decoders whose phases come from a source."""
    bands: tuple[tuple[float, float], ...] = (
        (0.0, 0.1),
        (0.1, 0.25),
        (0.25, 0.5),
        (0.5, 0.75),
        (0.75, 1.0),
    )
    """Each resolution's spectrum is cut at these fractions of the Nyquist frequency."""
    window_seconds: Annotated[float, Gt(0)] | None = None
    """Judge only so much of every crop, from a random moment on: discriminators cost more than a small VAE. null: all."""


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """The frozen self-supervised speech model whose features the latents are pulled towards."""

    model: str = "microsoft/wavlm-large"
    """`embedded` (the small CTC model in svae/assets), a local folder, or a Hugging Face hub id: WavLM, HuBERT, wav2vec2,
    w2v-BERT 2.0, or Whisper, whose encoder is taken."""
    layer: int | Literal["average"] = 23
    """Index into transformers' `hidden_states`: 0 is the input of the first layer, n the output of layer n, -1 the last;
    `average`: the mean over the outputs of all layers (1 to n)."""
    cache: str | None = None
    """Folder of `svae cache-teacher`: features stored once, instead of the teacher running in training."""
    context_seconds: Annotated[float, Ge(0)] = 0.5
    """Real audio on both sides of the crop that the teacher hears too, so that its edge frames are not at an edge."""


@dataclass(frozen=True, kw_only=True)
class VAELossConfig:
    """Weights of the generator's losses."""

    mel: Annotated[float, Ge(0)] = 15.0
    """Multi-scale log-mel L1, summed over 7 scales."""
    feature_matching: Annotated[float, Ge(0)] = 2.0
    """0 is right with `vae.source_filter`: it compares phases, and the pulses' cannot be the original's."""
    adversarial: Annotated[float, Ge(0)] = 1.0
    kl: Annotated[float, Ge(0)] = 0.01
    """Summed over channels, averaged over frames and batch."""
    alignment: Annotated[float, Ge(0)] | None = 1.0
    """The weight of the distance to the projected teacher features. null: no teacher (the acoustic baseline)."""
    alignment_form: Literal["cosine", "l1", "mse"] = "cosine"
    """cosine: minus the cosine similarity (the paper's). l1, mse: mean absolute or squared difference over channels."""
    pitch: Annotated[float, Ge(0)] = 1.0
    """With `vae.source_filter`: cross entropy of the predicted pitch, in voiced frames."""
    adversarial_start_step: Annotated[int, Ge(0)] = 0
    """Before this step there is no discriminator: neither trained nor felt by the generator."""


@dataclass(frozen=True, kw_only=True)
class VAETrainConfig:
    """A recipe of `svae train-vae`."""

    data: DataConfig
    trainer: TrainerConfig
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    vae: VAEConfig = field(default_factory=VAEConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    loss: VAELossConfig = field(default_factory=VAELossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: EMAConfig = field(default_factory=EMAConfig)
    init: str | None = None
    """Run or checkpoint folder of another VAE run whose weights are the start; `--init` sets it."""
    freeze_encoder: bool = False
    """Train the decoder alone, after `init`: the latents keep their meaning, for models that have learned them. The decoder
    may then be another than that of `init`, and starts from nothing."""
    segment_seconds: Annotated[float, Gt(0)] = 3.0
    """Length of a training crop."""
    batch_size: Annotated[int, Gt(0)] = 24
    """Crops per step over all ranks, dealt as evenly as can be; every crop weighs the same. At least the number of ranks."""
    validation_crops: Annotated[int, Gt(0)] = 32
    """Fixed crops scored at each validation; of each of the `data.sources`."""
    statistics_utterances: Annotated[int, Gt(0)] = 5000
    """At most this many training utterances, spread over the shards, measure the latents' mean and deviation at the end."""


# ----------------------------------------------------------------------------------------------- TTS


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """F5-TTS v1 diffusion transformer with its text tower, all padding masked."""

    dim: Annotated[int, Gt(0)] = 768
    depth: Annotated[int, Gt(0)] = 18
    heads: Annotated[int, Gt(0)] = 12
    """Head dimension = dim / heads."""
    ff_mult: Annotated[int, Gt(0)] = 2
    dropout: Fraction = 0.1
    text_dim: Annotated[int, Gt(0)] = 512
    text_conv_layers: Annotated[int, Ge(0)] = 4
    """ConvNeXt-V2 blocks on the text; 0 = embeddings only, as in E2-TTS: the control that tells what the blocks do."""
    text_conv_mult: Annotated[int, Gt(0)] = 2
    conv_pos_kernel: Annotated[int, Gt(0)] = 31
    conv_pos_groups: Annotated[int, Gt(0)] = 16
    qk_norm: bool = False
    """RMS norm of queries and keys per head."""
    text_length_leak: bool = True
    """F5's behaviour: without text, the network still sees how many positions the text had. false hides it."""
    average_upsampling: bool = False
    """Spread the text evenly over the frames before the transformer sees it (ZipVoice), instead of left-aligned."""
    shared_modulation: bool = False
    """One projection of the time for all blocks and an offset of each (PixArt-α's adaLN-single), instead of one a block,
    which is a third of a small network's weights."""


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Conditional flow matching with speech infilling (F5-TTS, sections 3.1 and 3.2)."""

    mask_ratio: tuple[Fraction, Fraction] = (0.7, 1.0)
    """Part of each utterance that is hidden and to be generated, uniform in this range."""
    drop_audio: Fraction = 0.3
    """Probability, per sample, of training without the audio condition."""
    drop_both: Fraction = 0.2
    """Probability, per sample, of training without audio and without text."""
    drop_text: Fraction = 0.0
    """Probability, per sample, of training without text, drawn apart from the others (F5-TTS never drops text alone)."""
    posterior: Literal["mean", "sample"] = "mean"
    """What is learned: posterior means, or one sample per utterance, seeded by its key."""
    weighting: Literal["equal", "variance"] = "equal"
    """How much an error in a normalised channel counts: alike in all, or as the channel's variance before normalising."""


@dataclass(frozen=True, kw_only=True)
class TTSOptimizerConfig(OptimizerConfig):
    """AdamW with F5-TTS's defaults (section 2 of its recipe: no exponential decay, a long warm-up)."""

    learning_rate: Annotated[float, Gt(0)] = 7.5e-5
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    max_grad_norm: Annotated[float, Gt(0)] = 1.0
    warmup_steps: Annotated[int, Ge(0)] = 20000
    schedule: Literal["constant", "exponential", "linear"] = "linear"


@dataclass(frozen=True, kw_only=True)
class TTSSourceConfig(SourceConfig):
    """One of several folders that a text-to-speech model learns from."""

    timings: str | None = None
    """As `data.timings`, of this source."""


@dataclass(frozen=True, kw_only=True)
class TTSDataConfig(DataConfig):
    """Where the shards are, also those that stored latents come from."""

    sources: tuple[TTSSourceConfig, ...] = ()
    """Several such folders in place of `root`, each read in its proportion, by frames."""
    waveform_root: str | None = None
    """Waveform shards that `trainer.synthesize_every` takes prompts from, where `root` holds latents. null, with `sources` of
    waveforms: the first of them."""
    timings: str | None = None
    """Times of phones of the utterances of `root`, from `svae align`; `tokens: frame-phonemes` reads them."""
    validation_timings: str | None = None
    """The same of those of `validation_root`."""
    language: str | None = None
    """Of utterances whose shards do not say it (en, zh, de, …); `tokens: espeak` reads by it."""


@dataclass(frozen=True, kw_only=True)
class TTSTrainerConfig(TrainerConfig):
    """What the TTS loop has besides: the longest batch tried first, and speech judged while training."""

    try_longest_batch: Literal["cuda", "always", "never"] = "cuda"
    """Compute the worst-case batch once before step 0, so that too little memory shows at once. cuda: only on a GPU."""
    synthesize_every: Annotated[int, Ge(0)] = 0
    """Steps between syntheses of held-out utterances, scored by the offline judges; 0 = never."""
    synthesize_utterances: Annotated[int, Gt(0)] = 8
    """The first so many utterances held out of the waveform shards, prompted by others of the speaker."""
    synthesize_steps: Annotated[int, Gt(0)] = 16
    """Solver steps of these."""


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank adaptation (arXiv 2106.09685) of the linear layers of the transformer, but those of text and time."""

    rank: Annotated[int, Gt(0)] = 16
    scale: Annotated[float, Gt(0)] = 1.0
    """Factor on what is added to a weight: alpha / rank in the paper's words."""


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """What a student learns of its teacher: few steps of one pass, the guidance inside (`svae distill`)."""

    teacher: str | None = None
    """TTS run or checkpoint; the command's argument. Structure, tokens, VAE and durations are its own."""
    steps: Annotated[int, Gt(0), Le(8)] = 4
    """Number of steps of the student."""
    teacher_steps: Annotated[int, Gt(0)] = 8
    """Steps of the teacher, the student's places added to them: most of the time of a training. docs/distill.md compares numbers."""
    guidance: Annotated[float, Ge(0)] | None = None
    """Guidance of the teacher (docs/architecture.md, Names). null: the teacher's own, else 2."""
    prompt_guidance: Annotated[float, Ge(-1)] | None = None
    """A scale for the prompt's part. null: the teacher's own, else `guidance`."""
    temperature: Annotated[float, Ge(0)] | None = None
    """Standard deviation of the noise that teacher and student begin with. null: the teacher's own, else 1."""
    lora: LoRAConfig = field(default_factory=lambda: LoRAConfig(rank=32))
    """What is added to the teacher's weights."""


@dataclass(frozen=True, kw_only=True)
class TTSLossConfig:
    """What a text-to-speech training minimises beside the flow's error."""

    hidden_alignment: Annotated[float, Ge(0)] = 0.0
    """Weight of minus the cosine between the teacher's features (`teacher.cache`) and a block's output, projected by a small network
    that only the training has (REPA, A-DMA). 0: no teacher."""
    hidden_layer: Annotated[int, Gt(0)] | None = None
    """After which block, counted from 1. null: a third of them, from below."""


@dataclass(frozen=True, kw_only=True)
class TTSTrainConfig:
    """A recipe of `svae train-tts`."""

    data: TTSDataConfig
    trainer: TTSTrainerConfig
    representation: Literal["latents", "mel"] = "latents"
    """What is generated: a VAE's latents, or F5-TTS's log-mel frames (24 kHz, hop 256, 100 bins), the baseline."""
    tokens: Literal["characters", "phonemes", "frame-phonemes", "pinyin", "espeak"] = "characters"
    """What the text becomes: characters; phonemes of English (CMU dictionary); or which of them is spoken
    in each frame, as Voicebox: known from `data.timings`, in synthesis from the prompt and predicted durations; pinyin:
    Chinese as syllables with tones, the rest as characters, as in F5-TTS (extra `chinese`); espeak: phonemes of a hundred
    languages, each utterance in its own (extra `espeak`)."""
    spelled_words: Fraction = 0.1
    """With phonemes: share of words given in letters in training, so that words not in the dictionary can be read."""
    vae: str | None = None
    """Checkpoint or run folder of the VAE; `--vae` sets it. Needed unless the data are stored latents with a copy of it."""
    vocoder: str = "charactr/vocos-mel-24khz"
    """Turns mel frames into a waveform: hub id or folder of Vocos, or `griffin-lim` (no weights, metallic)."""
    init: str | None = None
    """Run or checkpoint folder of another TTS run whose weights are the start; with `distill`, of another student. `--init` sets it."""
    distill: DistillConfig | None = None
    """Learn from a teacher, not from the data alone: for `svae distill`. null: flow matching."""
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    dit: DiTConfig = field(default_factory=DiTConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    loss: TTSLossConfig = field(default_factory=TTSLossConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """Whose features `loss.hidden_alignment` means."""
    optimizer: TTSOptimizerConfig = field(default_factory=TTSOptimizerConfig)
    ema: EMAConfig = field(default_factory=EMAConfig)
    batch_frames: Annotated[int, Gt(0)] = 131072
    """Frames of the representation per step over all ranks, padding included."""
    min_seconds: Annotated[float, Ge(0)] = 0.3
    max_seconds: Annotated[float, Gt(0)] = 30.0
    """Utterances outside these are left out, counted and printed."""
    validation_utterances: Annotated[int, Gt(0)] = 64
    """Held-out utterances that the loss is measured on; of each of the `data.sources`."""


@dataclass(frozen=True, kw_only=True)
class JudgesConfig:
    """Who judges speech while an adaptation is trained; fixed for a run, as scores of different judges do not compare."""

    asr: str = "pocketsphinx"
    speaker: str = "embedded"
    mos: str | None = None
    """Predictor of naturalness: `distillmos`, or an ONNX file as `svae evaluate --utmos` takes it. null: none."""


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(TTSTrainConfig):
    """What `svae adapt` trains with; sizes, tokens and VAE are those of the model that is adapted."""

    lora: LoRAConfig = field(default_factory=LoRAConfig)
    judges: JudgesConfig = field(default_factory=JudgesConfig)
    patience: Annotated[int, Gt(0)] = 4
    """Training ends after so many judgements in a row without a better one."""
