"""Configs of published size (Flux.1 dev, Z-Image-Turbo, FLUX.2 klein 4B, Wan), and their networks without memory."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sadaflow.models import Autoencoder, AutoencoderConfig, FluxConfig, FluxTransformer
from sadaflow.models.causal_autoencoder import CausalAutoencoder, CausalAutoencoderConfig
from sadaflow.models.flux2 import Flux2Autoencoder, Flux2AutoencoderConfig, Flux2Config, Flux2Transformer
from sadaflow.models.wan import WanConfig, WanTransformer
from sadaflow.models.z_image import ZImageConfig, ZImageTransformer

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 2560, "intermediate_size": 9728,
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 151936, "max_position_embeddings": 40960, "rope_theta": 1000000, "rms_norm_eps": 1e-06,
    "attention_bias": False, "hidden_act": "silu", "tie_word_embeddings": True,
    "bos_token_id": 151643, "eos_token_id": 151645,
}  # fmt: skip
TRANSFORMER = {"_class_name": "FluxTransformer2DModel", "guidance_embeds": True}
VAE = {
    "_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
    "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False, "scaling_factor": 0.3611,
    "shift_factor": 0.1159, "sample_size": 1024, "force_upcast": True,
}  # fmt: skip
CLIP = {
    "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_size": 768,
    "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 49408,
    "max_position_embeddings": 77, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
}  # fmt: skip
T5 = {
    "architectures": ["T5EncoderModel"], "model_type": "t5", "d_model": 4096, "d_ff": 10240, "d_kv": 64,
    "num_heads": 64, "num_layers": 24, "vocab_size": 32128, "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": False, "use_cache": False, "tie_word_embeddings": False,
}  # fmt: skip
_FLUX2_VAE = {"_class_name": "AutoencoderKLFlux2", "batch_norm_eps": 0.0001, "sample_size": 1024}
_Z_IMAGE = {"_class_name": "ZImageTransformer2DModel"}
_KLEIN = {
    "_class_name": "Flux2Transformer2DModel", "num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24,
    "joint_attention_dim": 7680, "guidance_embeds": False,
}  # fmt: skip
UMT5 = {
    "architectures": ["UMT5EncoderModel"], "model_type": "umt5", "d_model": 4096, "d_ff": 10240, "d_kv": 64,
    "num_heads": 64, "num_layers": 24, "vocab_size": 256384, "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": True, "use_cache": True, "tie_word_embeddings": False, "decoder_start_token_id": 0,
}  # fmt: skip
_WAN = {
    "_class_name": "WanTransformer3DModel", "num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30,
}  # fmt: skip
WAN_VAE = {"_class_name": "AutoencoderKLWan", "latents_mean": [0.0] * 16, "latents_std": [2.0] * 16}
WAN_VAE_TI2V = {
    "_class_name": "AutoencoderKLWan", "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "in_channels": 12,
    "out_channels": 12, "patch_size": 2, "is_residual": True, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
}  # fmt: skip
_UNIPC = {
    "_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": True,
    "flow_shift": 3.0,
}  # fmt: skip
_FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


def _bytes() -> Any:
    """The tokenizer of the tests, in which each byte is a token."""
    from support.chat_tokenizer import chat_tokenizer

    return chat_tokenizer()


def _letters() -> Any:
    """A tokenizer of UMT5 in which each character is a token."""
    from transformers import T5TokenizerFast

    from support.small_t5 import letters

    return T5TokenizerFast(vocab=letters("<pad>", "</s>", "<s>", "<unk>"), extra_ids=0)


@dataclass(frozen=True)
class FullSize:
    """A checkpoint of published size.

    Attributes:
        index: Fields of its model_index.json.
        scheduler: Its scheduler config.
        configs: The config of each network.
        build: Builds the networks by name.
        tokenizer: Builds its tokenizer, which is a small one.
    """

    index: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    configs: Mapping[str, Mapping[str, Any]]
    build: Callable[[], dict[str, nn.Module]]
    tokenizer: Callable[[], Any] = _bytes

    def networks(self) -> dict[str, nn.Module]:
        """The networks without memory, in bfloat16."""
        with torch.device("meta"):
            return {name: part.to(torch.bfloat16).eval() for name, part in self.build().items()}

    def write_small(self, folder: Path) -> None:
        """Write what has no weights."""
        (folder / "scheduler").mkdir(parents=True)
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(self.scheduler))
        (folder / "model_index.json").write_text(json.dumps(self.index))
        self.tokenizer().save_pretrained(folder / "tokenizer")


def flux_parts() -> dict[str, nn.Module]:
    """The networks of Flux.1 dev without memory, in bfloat16."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    with torch.device("meta"):
        parts: dict[str, nn.Module] = {
            "text_encoder": CLIPTextModel(CLIPTextConfig(**CLIP)),
            "text_encoder_2": T5EncoderModel(T5Config(**T5)),
            "transformer": FluxTransformer(FluxConfig.from_dict(TRANSFORMER)),
            "vae": Autoencoder(AutoencoderConfig.from_dict(VAE)),
        }
        return {name: part.to(torch.bfloat16).requires_grad_(False).eval() for name, part in parts.items()}


def _language_model() -> nn.Module:
    from transformers import Qwen3Config, Qwen3Model

    return Qwen3Model(Qwen3Config(**QWEN3))


def _umt5() -> nn.Module:
    from transformers import UMT5Config, UMT5EncoderModel

    return UMT5EncoderModel(UMT5Config(**UMT5))


def _named(name: str, transformer: str, vae: str, encoder: str, **fields: Any) -> dict[str, Any]:
    return {
        "_class_name": name, "scheduler": ["diffusers", _FLOW["_class_name"]],
        "text_encoder": ["transformers", encoder], "tokenizer": ["transformers", "Qwen2TokenizerFast"],
        "transformer": ["diffusers", transformer], "vae": ["diffusers", vae], **fields,
    }  # fmt: skip


MODELS = {
    "z-image-turbo": FullSize(
        _named("ZImagePipeline", "ZImageTransformer2DModel", "AutoencoderKL", "Qwen3Model"),
        {**_FLOW, "use_dynamic_shifting": False},
        {"text_encoder": QWEN3, "transformer": _Z_IMAGE, "vae": VAE},
        lambda: {
            "text_encoder": _language_model(),
            "transformer": ZImageTransformer(ZImageConfig.from_dict(_Z_IMAGE)),
            "vae": Autoencoder(AutoencoderConfig.from_dict(VAE)),
        },
    ),
    "flux2-klein-4b": FullSize(
        _named("Flux2KleinPipeline", "Flux2Transformer2DModel", "AutoencoderKLFlux2", "Qwen3Model", is_distilled=True),
        {**_FLOW, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15},
        {"text_encoder": QWEN3, "transformer": _KLEIN, "vae": _FLUX2_VAE},
        lambda: {
            "text_encoder": _language_model(),
            "transformer": Flux2Transformer(Flux2Config.from_dict(_KLEIN)),
            "vae": Flux2Autoencoder(Flux2AutoencoderConfig.from_dict(_FLUX2_VAE)),
        },
    ),
    "wan2.1-t2v-1.3b": FullSize(
        _named(
            "WanPipeline",
            "WanTransformer3DModel",
            "AutoencoderKLWan",
            "UMT5EncoderModel",
            scheduler=["diffusers", "UniPCMultistepScheduler"],
            tokenizer=["transformers", "T5TokenizerFast"],
        ),
        _UNIPC,
        {"text_encoder": UMT5, "transformer": _WAN, "vae": WAN_VAE},
        lambda: {
            "text_encoder": _umt5(),
            "transformer": WanTransformer(WanConfig.from_dict(_WAN)),
            "vae": CausalAutoencoder(CausalAutoencoderConfig.from_dict(WAN_VAE)),
        },
        _letters,
    ),
}
