"""Which model an adapter or a textual inversion was made for, by its keys and their shapes."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

_METADATA: Final = ("ss_base_model_version", "modelspec.architecture")
"""Fields in which kohya's programs and ai-toolkit name the model that an adapter was trained on."""
_NAMED: Final = (("FLUX.2", r"flux-?2"), ("Chroma", r"chroma"))
"""Models whose adapters may have the keys of Flux.1, and signs of them in the metadata."""

# Signs of the model that an adapter was made for, searched in keys with "_" for "."; the first that fits counts.
_MODELS = (
    ("FLUX.2", r"(double|single)_stream_modulation|attn_to_qkv_mlp_proj|blocks_\d+_ff(_context)?_linear_(in|out)"),
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
# The networks of FLUX.2 are 3072 (klein 4B), 4096 (9B) or 6144 (dev) wide, that of Flux.1 is 3072; the middle of a
# feed-forward is 3 times as wide, and gated, in place of 4 times.
_DOWN, _UP = r".*(lora_down|lora_A)\w*_weight$", r".*(lora_up|lora_B)\w*_weight$"
_FLUX2_SIZES: Final = (
    (r"(double_blocks_\d+_(img|txt)_attn_(qkv|proj)|single_blocks_\d+_linear1|transformer_blocks_\d+_attn_\w+)" + _DOWN,
     -1, (4096, 6144)),
    (r"single_blocks_\d+_linear1" + _UP, 0, (27648, 36864, 55296)),
    (r"single_blocks_\d+_linear2" + _DOWN, -1, (12288, 16384, 24576)),
    (r"double_blocks_\d+_(img|txt)_mlp_0" + _UP, 0, (18432, 24576, 36864)),
    (r"double_blocks_\d+_(img|txt)_mlp_2" + _DOWN, -1, (9216, 18432)),
)  # fmt: skip
_UNET = re.compile(r"(down|up|mid|input|output|middle)_blocks?_")
_CROSS = re.compile(r"attn2_to_[kv]_(lora_down|lora_A|lora_down)_.*weight$")
_WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}


def made_for(shapes: Iterable[tuple[str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None) -> str | None:
    """The model that an adapter was made for; None if that is not known.

    Args:
        shapes: Its keys with their shapes.
        metadata: The metadata of its file, which tells models apart whose layers have the same names and shapes.
    """
    said = " ".join((metadata or {}).get(field, "") for field in _METADATA).lower()
    if named := next((model for model, sign in _NAMED if re.search(sign, said)), None):
        return named
    found = [(re.sub(r"^.*?(?:base_model\.model\.)", "", name).replace(".", "_"), shape) for name, shape in shapes]
    for name, shape in found:
        if _CROSS.search(name) and _UNET.search(name) and shape and shape[-1] in _WIDTHS:
            return _WIDTHS[shape[-1]]
    for model, sign in _MODELS:
        if any(re.search(sign, name) and not (model.startswith("LTX") and _UNET.search(name)) for name, _ in found):
            return "FLUX.2" if model == "Flux.1" and any(map(_has_own_size, found)) else model
    return "Stable Diffusion 1.x or 2.x" if any(_UNET.search(name) for name, _ in found) else None


def _has_own_size(key: tuple[str, tuple[int, ...]]) -> bool:
    """Whether a factor has a size that occurs in FLUX.2 and not in Flux.1 under the same name."""
    name, shape = key
    return any(re.search(sign, name) and shape and shape[axis] in sizes for sign, axis, sizes in _FLUX2_SIZES)


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
