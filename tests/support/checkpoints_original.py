"""Tiny random checkpoints of SD 1.x, 2.x and XL in both layouts: the Hub's, and one file in the authors' own.

Names of the original layout are listed here as its model code makes them; Diffusers' converters map them to tensors of
the Hub's layout.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from support.checkpoints import clip_tokenizer

NETWORK, VAE = "model.diffusion_model.", "first_stage_model."
_RESNET = ["in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3", "skip_connection"]
_ATTENTION = [f"{attn}.{to}" for attn in ("attn1", "attn2") for to in ("to_q", "to_k", "to_v", "to_out.0")]
_BLOCK = [*_ATTENTION, "norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2"]
_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}

UNETS: dict[str, dict[str, Any]] = {
    "sd15": {
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 2,
        "cross_attention_dim": 64,
        "attention_head_dim": 8,
    },
    "sd21": {
        "block_out_channels": (64, 128),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": 128,
        "attention_head_dim": (1, 2),
        "use_linear_projection": True,
    },
    "sdxl": {
        "block_out_channels": (32, 64, 128),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "transformer_layers_per_block": (1, 2, 3),
        "cross_attention_dim": 192,
        "attention_head_dim": (1, 1, 2),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 40 + 6 * 8,
    },
}

UNETS["refiner"] = {
    **UNETS["sdxl"],
    "cross_attention_dim": 128,
    "projection_class_embeddings_input_dim": 40 + 5 * 8,
}


def _unet_modules(config: Mapping[str, Any]) -> Iterator[str]:
    layers, types = config["layers_per_block"], config["down_block_types"]
    yield from ("time_embed.0", "time_embed.2", "label_emb.0.0", "label_emb.0.2", "out.0", "out.2", "input_blocks.0.0")

    def block(place: str, attention: bool) -> Iterator[str]:
        yield from (f"{place}.0.{part}" for part in _RESNET)
        if attention:
            yield from transformer(f"{place}.1")

    def transformer(place: str) -> Iterator[str]:
        yield from (f"{place}.{part}" for part in ("norm", "proj_in", "proj_out"))
        yield from (f"{place}.transformer_blocks.{depth}.{part}" for depth in range(4) for part in _BLOCK)

    index = 1
    for level, kind in enumerate(types):
        for _ in range(layers):
            yield from block(f"input_blocks.{index}", "Cross" in kind)
            index += 1
        if level < len(types) - 1:
            yield f"input_blocks.{index}.0.op"
            index += 1
    yield from (f"middle_block.{place}.{part}" for place in (0, 2) for part in _RESNET)
    yield from transformer("middle_block.1")
    index = 0
    for level, kind in reversed(list(enumerate(types))):
        for layer in range(layers + 1):
            yield from block(f"output_blocks.{index}", "Cross" in kind)
            if layer == layers and level:
                yield f"output_blocks.{index}.{2 if 'Cross' in kind else 1}.conv"
            index += 1


def _vae_modules(levels: int, layers: int) -> Iterator[str]:
    yield from ("quant_conv", "post_quant_conv")
    for half, stack, count, resample in (("encoder", "down", layers, "down"), ("decoder", "up", layers + 1, "up")):
        yield from (f"{half}.{part}" for part in ("conv_in", "conv_out", "norm_out"))
        places = [f"{half}.{stack}.{level}.block.{layer}" for level in range(levels) for layer in range(count)]
        places += [f"{half}.mid.block_{index}" for index in (1, 2)]
        parts = ("norm1", "conv1", "norm2", "conv2", "nin_shortcut")
        yield from (f"{place}.{part}" for place in places for part in parts)
        yield from (f"{half}.{stack}.{level}.{resample}sample.conv" for level in range(levels))
        yield from (f"{half}.mid.attn_1.{part}" for part in ("norm", "q", "k", "v", "proj_out"))


def _to_original(state: Mapping[str, Tensor], modules: Iterator[str], prefix: str, convert: Any) -> dict[str, Tensor]:
    names = [f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")]
    marks = convert({f"{prefix}{name}": torch.tensor([float(index)]) for index, name in enumerate(names)})
    assert set(state) <= set(marks), set(state) - set(marks)
    return {prefix + names[int(marks[name].item())]: tensor.contiguous() for name, tensor in state.items()}


def unet_to_original(unet: UNet2DConditionModel, style: str) -> dict[str, Tensor]:
    config = UNETS[style]
    return _to_original(
        unet.state_dict(), _unet_modules(config), NETWORK, lambda marks: convert_ldm_unet_checkpoint(marks, config)
    )


def controlnet_to_original(net: ControlNetModel, style: str, prefix: str) -> dict[str, Tensor]:
    config = UNETS[style]
    modules = [*_unet_modules(config), "middle_block_out.0"]
    modules += [*(f"input_hint_block.{2 * i}" for i in range(8)), *(f"zero_convs.{i}.0" for i in range(12))]
    state = net.state_dict()
    added = {n: x for n, x in state.items() if n.startswith("add_embedding.")}  # which the converter does not know
    made = _to_original(
        {name: tensor for name, tensor in state.items() if name not in added},
        modules,
        prefix,
        lambda marks: convert_controlnet_checkpoint(marks, dict(config)),
    )
    names = {"linear_1": "label_emb.0.0", "linear_2": "label_emb.0.2"}
    return made | {f"{prefix}{names[n.split('.')[1]]}.{n.rpartition('.')[2]}": x for n, x in added.items()}


def vae_to_original(vae: AutoencoderKL) -> dict[str, Tensor]:
    config = dict(vae.config)
    modules = _vae_modules(len(config["block_out_channels"]), config["layers_per_block"])
    made = _to_original(vae.state_dict(), modules, VAE, lambda marks: convert_ldm_vae_checkpoint(marks, config))
    return {name: x[:, :, None, None] if ".attn_1." in name and x.dim() == 2 else x for name, x in made.items()}


def hub_text_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published spelling, whichever transformers uses."""
    return {name if name.startswith("text_") else f"text_model.{name}": tensor for name, tensor in state.items()}


def text_to_open_clip(state: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """A text encoder of `layers` layers under OpenCLIP's names."""
    state = hub_text_names(state)
    made = {
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "logit_scale": torch.tensor(1.0),
    }
    for leaf in ("weight", "bias"):
        made[f"ln_final.{leaf}"] = state[f"text_model.final_layer_norm.{leaf}"]
        for index in range(layers):
            old, new = f"text_model.encoder.layers.{index}", f"transformer.resblocks.{index}"
            parts = [state[f"{old}.self_attn.{name}_proj.{leaf}"] for name in "qkv"]
            made[f"{new}.attn.in_proj_{leaf}"] = torch.cat(parts)
            pairs = {"self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2"}
            for ours, theirs in {**pairs, "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}.items():
                made[f"{new}.{theirs}.{leaf}"] = state[f"{old}.{ours}.{leaf}"]
    if "text_projection.weight" in state:
        made["text_projection"] = state["text_projection.weight"].T.contiguous()
    return made


def _text(width: int, layers: int, vocabulary: int, act: str, projection: int | None = None) -> Any:
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=24,
        hidden_act=act,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
        **({} if projection is None else {"projection_dim": projection}),
    )
    return CLIPTextModel(config) if projection is None else CLIPTextModelWithProjection(config)


def original(folder: Path, style: str) -> tuple[Path, Path]:
    """Write the Hub's layout and the file; returns both."""
    torch.manual_seed(11)
    end, mark = (clip_tokenizer(folder / f"words-{n}", pad) for n, pad in enumerate(("<|endoftext|>", "!")))
    unet = UNet2DConditionModel(sample_size={"sd15": 64, "sd21": 96}.get(style, 128), **UNETS[style])
    vae = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=2,
        scaling_factor=0.18215 if style.startswith("sd1") or style == "sd21" else 0.13025,
    )
    parts: dict[str, Any] = {"unet": unet, "vae": vae}
    tensors = {**unet_to_original(unet, style), **vae_to_original(vae)}
    tensors["model_ema.diffusion_modelinput_blocks00weight"] = torch.zeros(3)
    tensors["alphas_cumprod"] = torch.zeros(1000)
    first = _text(64, 2, len(end), "quick_gelu")
    if style == "sdxl":
        second = _text(128, 2, len(end), "gelu", projection=40)
        scheduler = EulerDiscreteScheduler(**_BETAS, timestep_spacing="leading")
        parts |= {"text_encoder": first, "tokenizer": end, "text_encoder_2": second, "tokenizer_2": mark}
        StableDiffusionXLPipeline(**parts, scheduler=scheduler, add_watermarker=False).save_pretrained(folder / "hub")
        texts = {
            f"conditioner.embedders.0.transformer.{name}": x for name, x in hub_text_names(first.state_dict()).items()
        }
        open_clip = text_to_open_clip(second.state_dict(), 2)
        texts |= {f"conditioner.embedders.1.model.{name}": x for name, x in open_clip.items()}
    elif style == "refiner":
        second = _text(128, 2, len(end), "gelu", projection=40)
        parts |= {"text_encoder": None, "tokenizer": None, "text_encoder_2": second, "tokenizer_2": mark}
        parts |= {"scheduler": EulerDiscreteScheduler(**_BETAS, timestep_spacing="leading"), "add_watermarker": False}
        settings = {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False}
        StableDiffusionXLImg2ImgPipeline(**parts, **settings).save_pretrained(folder / "hub")
        open_clip = text_to_open_clip(second.state_dict(), 2)
        texts = {f"conditioner.embedders.0.model.{name}": x for name, x in open_clip.items()}
    else:
        parts |= {"text_encoder": first, "tokenizer": end, "scheduler": PNDMScheduler(**_BETAS, skip_prk_steps=True)}
        texts = {f"cond_stage_model.transformer.{name}": x for name, x in hub_text_names(first.state_dict()).items()}
        texts["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(24)[None]
        if style == "sd21":
            whole = _text(128, 3, len(mark), "gelu")
            used = _text(128, 2, len(mark), "gelu")
            state = whole.state_dict()
            used.load_state_dict({name: state[name] for name in used.state_dict()})
            scheduler = DDIMScheduler(
                **_BETAS, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False
            )
            parts |= {"text_encoder": used, "tokenizer": mark, "scheduler": scheduler}
            open_clip = {**text_to_open_clip(state, 3), "text_projection": torch.zeros(128, 128)}
            texts = {f"cond_stage_model.model.{name}": x for name, x in open_clip.items()}
        StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        ).save_pretrained(folder / "hub")
    save_file({name: tensor.clone() for name, tensor in {**tensors, **texts}.items()}, folder / f"{style}.safetensors")
    return folder / "hub", folder / f"{style}.safetensors"
