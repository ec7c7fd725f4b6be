"""Which model an adapter or a textual inversion was made for, by its keys and their shapes."""

import re
from collections.abc import Iterable

# Signs of the model that an adapter was made for, searched in keys with "_" for "."; the first that fits counts.
_MODELS = (
    ("Flux.2", r"(double|single)_stream_modulation"),
    ("Chroma", r"distilled_guidance_layer"),
    ("HunyuanVideo", r"individual_token_refiner|context_embedder_token_refiner"),
    ("Qwen-Image", r"transformer_blocks_\d+_(img|txt)_(mod_1|mlp_net)"),
    ("Flux.1", r"single_transformer_blocks_\d|(double|single)_blocks_\d"),
    ("Stable Diffusion 3", r"joint_blocks_\d|joint_transformer|transformer_blocks_\d+_attn2?_add_[qkv]_proj"),
    ("Stable Cascade", r"lora_prior_|clip_txt_pooled_mapper"),
    ("PixArt", r"adaln_single|blocks_\d+_cross_attn_(q|kv)_linear"),
    ("Wan", r"blocks_\d+_(self|cross)_attn_[qkvo]"),
    ("Z-Image or Lumina", r"(noise|context)_refiner|layers_\d+_(attention|feed_forward)"),
    ("LTX-Video or CogVideoX", r"(transformer_)?transformer_blocks_\d+_attn1_to_q"),
    (
        "Stable Diffusion XL",
        r"lora_te2_|text_encoder_2|clip_g|(?:down_blocks_2|mid_block|up_blocks_0|middle_block_1|(?:input|output)_blocks_\d+_1)"
        r".*transformer_blocks_[2-9]_",
    ),
)
_UNET = re.compile(r"(down|up|mid|input|output|middle)_blocks?_")
_CROSS = re.compile(r"attn2_to_[kv]_(lora_down|lora_A|lora_down)_.*weight$")
_WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}


def made_for(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> str | None:
    """The model that an adapter was made for, by its keys with their shapes; None if that is not known."""
    found = [(re.sub(r"^.*?(?:base_model\.model\.)", "", name).replace(".", "_"), shape) for name, shape in shapes]
    for name, shape in found:
        if _CROSS.search(name) and _UNET.search(name) and shape and shape[-1] in _WIDTHS:
            return _WIDTHS[shape[-1]]
    for model, sign in _MODELS:
        if any(re.search(sign, name) and not (model.startswith("LTX") and _UNET.search(name)) for name, _ in found):
            return model
    return "Stable Diffusion 1.x or 2.x" if any(_UNET.search(name) for name, _ in found) else None


def made_for_width(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> str | None:
    """The models that a textual inversion was made for, by the widths of its vectors; None if that is not known."""
    widths = {shape[-1] for _, shape in shapes if shape}
    known = {
        frozenset({768, 1280}): "Stable Diffusion XL",
        frozenset({768, 4096}): "Flux.1",
        frozenset({768}): "Stable Diffusion 1.x (also the first encoder of XL and Flux.1)",
        frozenset({1024}): "Stable Diffusion 2.x",
        frozenset({1280}): "the second encoder of Stable Diffusion XL",
        frozenset({4096}): "T5 of Flux.1",
    }
    return known.get(frozenset(widths))
