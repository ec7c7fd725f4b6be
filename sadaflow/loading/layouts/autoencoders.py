"""Layouts of autoencoders: those of latent diffusion, the causal ones of Wan and Qwen-Image, and tiny ones."""

from .row import Layout

VAES = ("first_stage_model.", "vae.")
"""What the names of an autoencoder's tensors begin with in a file of several components."""

_VAE = "vae=FILE, beside a checkpoint"
CAUSAL = "causal"
"""The `family` of rows of causal autoencoders."""
AUTOENCODERS = (
    *(
        Layout(
            f"autoencoder of Wan 2.2 TI2V, {names} names{f', under {prefix}' if prefix else ''}",
            "autoencoder",
            (f"{prefix}encoder.{stack}.*",),
            source,
            use=_VAE,
            family=CAUSAL,
            prefix=prefix,
        )
        for prefix in ("", *VAES)
        for names, stack, source in (
            ("authors'", "downsamples.0.downsamples", "Wan-AI/Wan2.2-TI2V-5B, Comfy-Org wan2.2_vae.safetensors"),
            ("the Hub's", "down_blocks.0.downsampler", "Wan-AI/Wan2.2-TI2V-5B-Diffusers"),
        )
    ),
    *(
        Layout(
            f"autoencoder of Wan 2.1 and Qwen-Image, {names} names{f', under {prefix}' if prefix else ''}",
            "autoencoder",
            (f"{prefix}decoder.{norm}.gamma", f"{prefix}{conv}.weight"),
            source,
            use=_VAE,
            family=CAUSAL,
            prefix=prefix,
        )
        for prefix in ("", *VAES)
        for names, norm, conv, source in (
            ("authors'", "head.0", "conv1", "Comfy-Org qwen_image_vae.safetensors, wan_2.1_vae.safetensors"),
            ("the Hub's", "norm_out", "quant_conv", "Qwen/Qwen-Image vae/diffusion_pytorch_model.safetensors"),
        )
    ),
    *(
        Layout(
            f"autoencoder, {names} names{f', under {prefix}' if prefix else ''}",
            "autoencoder",
            (f"{prefix}encoder.{down}.*", f"{prefix}decoder.{up}.*", f"{prefix}decoder.conv_in.weight"),
            source,
            use=_VAE,
            prefix=prefix,
        )
        for prefix in ("", *VAES)
        for names, down, up, source in (
            ("authors'", "down", "up", "stabilityai/sd-vae-ft-mse-original, FLUX.1's ae.safetensors"),
            ("the Hub's", "down_blocks", "up_blocks", "stabilityai/sdxl-vae"),
        )
    ),
)

_TINY = "pipe.load_preview_decoder(FILE), or vae=FILE beside a checkpoint"
TINY_AUTOENCODERS = (
    *(
        Layout(
            f"tiny autoencoder (TAESD), authors' names{f', under {prefix}' if prefix else ''}",
            "tiny autoencoder",
            (f"{prefix}1.weight", f"{prefix}3.conv.0.weight"),
            source,
            lacks=lacks,
            use=_TINY,
            prefix=prefix,
        )
        for prefix, lacks, source in (
            ("", ("0.weight",), "madebyollin/taesd taesd_decoder.safetensors, taesdxl, taesd3, taef1"),
            ("decoder.", (), "files with encoder and decoder"),
            ("taesd_decoder.", (), "files of user interfaces"),
        )
    ),
    Layout(
        "tiny autoencoder (TAESD), the Hub's names",
        "tiny autoencoder",
        ("decoder.layers.0.weight", "decoder.layers.2.conv.0.weight"),
        "madebyollin/taesd diffusion_pytorch_model.safetensors",
        use=_TINY,
        prefix="decoder.layers.",
    ),
)
