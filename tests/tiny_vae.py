"""A VAE of the published structure with widths that make a test take milliseconds."""

from svae.config import BigVGANConfig, VAEConfig

TINY_VAE = VAEConfig(
    latent_dim=8,
    encoder_channels=4,
    attention_heads=2,
    decoder=BigVGANConfig(
        upsample_rates=(5, 5, 4, 4),
        upsample_kernel_sizes=(9, 9, 8, 8),
        initial_channels=32,
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3),),
    ),
)
