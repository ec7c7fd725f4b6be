"""The table of adapter files: dialects that are read, and kinds that are refused, each with its source.

A row is data: `inspect`, error messages and docs/loading.md show it. Which layer a key belongs to is decided in
`names`, and which part of its change it is in `keys`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """A kind of adapter file.

    Attributes:
        name: Its name.
        keys: Regular expression of the keys that tell it, searched in each key.
        example: A key of a published file.
        source: The program or paper that defines it.
        refused: Why it is refused and what to do; None if it is read.
    """

    name: str
    keys: str
    example: str
    source: str
    refused: str | None = None


_DIFFUSERS = "https://github.com/huggingface/diffusers, loaders/lora_pipeline.py"
_PEFT = "https://github.com/huggingface/peft"
_KOHYA = "https://github.com/kohya-ss/sd-scripts"
_LYCORIS = "https://github.com/KohakuBlueleaf/LyCORIS"
_COMFY = "https://github.com/comfyanonymous/ComfyUI"
_MERGE = "merge it with the program that made it, and load the merged checkpoint"

DIALECTS = (
    Dialect(
        "kohya, Flux.1",
        r"^lora_unet_(double|single)_blocks_",
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight",
        f"{_KOHYA}, networks/lora_flux.py",
    ),
    Dialect(
        "kohya, sgm names",
        r"^lora_unet_(input|middle|output)_",
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
        f"{_KOHYA}, networks/lora.py",
    ),
    Dialect(
        "kohya",
        r"^(lora_unet|lora_te\d?)_.*\.lora_(down|up)\.weight$",
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        f"{_KOHYA}, networks/lora.py",
    ),
    Dialect(
        "OneTrainer",
        r"^lora_transformer_|^(unet|transformer|clip_[lg]|t5)\..*\.lora_(down|up)\.weight$",
        "lora_transformer_single_transformer_blocks_0_attn_to_q.lora_down.weight",
        "https://github.com/Nerogar/OneTrainer",
    ),
    Dialect(
        "PEFT",
        r"^base_model\.model\.",
        "base_model.model.mid_block.attentions.0.proj_in.lora_A.weight",
        f"{_PEFT}, utils/save_and_load.py",
    ),
    Dialect(
        "Diffusers, ai-toolkit",
        r"^(unet|transformer|text_encoder|text_encoder_2)\..*\.lora_[AB]\.",
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
        _DIFFUSERS,
    ),
    Dialect(
        "Diffusers before 0.22",
        r"\.(lora|lora_linear_layer)\.(down|up)\.weight$|to_\w+_lora\.(down|up)\.weight$",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
        _DIFFUSERS,
    ),
    Dialect(
        "XLabs, Flux.1",
        r"_blocks\.\d+\.processor\.(qkv|proj)_lora[12]?\.",
        "double_blocks.0.processor.qkv_lora1.down.weight",
        "https://github.com/XLabs-AI/x-flux",
    ),
    Dialect(
        "ComfyUI",
        r"^(model\.)?diffusion_model\.|^text_encoders\.",
        "diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight",
        _COMFY,
    ),
    Dialect("LoCon with a middle factor", r"\.lora_mid\.weight$", "lora_unet_X.lora_mid.weight", _LYCORIS),
    Dialect("LoHa", r"\.hada_w1_a", "lora_unet_X.hada_w1_a", f"{_LYCORIS}; {_PEFT}"),
    Dialect("LoKr", r"\.lokr_w[12]", "lora_unet_X.lokr_w1", f"{_LYCORIS}; {_PEFT}"),
    Dialect(
        "DoRA",
        r"\.dora_scale$|\.lora_magnitude_vector",
        "lora_unet_X.dora_scale",
        f"arXiv 2402.09353; {_PEFT}",
    ),
    Dialect("(IA)3", r"\.ia3_l|\.on_input$", "base_model.model.X.ia3_l", f"arXiv 2205.05638; {_PEFT}; {_LYCORIS}"),
    Dialect("OFT of kohya and LyCORIS", r"\.oft_blocks$", "oft_unet_X.oft_blocks", f"{_KOHYA}; {_LYCORIS}"),
    Dialect("OFT of PEFT", r"\.oft_R", "base_model.model.X.oft_R.weight", f"arXiv 2306.07280; {_PEFT}"),
    Dialect("BOFT of PEFT", r"\.boft_[Rs]", "base_model.model.X.boft_R", f"arXiv 2311.06243; {_PEFT}"),
    Dialect("GLoRA", r"\.a1\.weight$", "lora_unet_X.a1.weight", f"arXiv 2306.07967; {_LYCORIS}"),
    Dialect("full differences", r"\.diff(_b)?$", "lora_unet_X.diff", f"{_LYCORIS}; {_COMFY}"),
    Dialect("norms", r"\.[wb]_norm$", "lora_unet_X.w_norm", _LYCORIS),
    Dialect("bundled textual inversions", r"^bundle_emb\.", "bundle_emb.NAME.string_to_param.*", _KOHYA),
    Dialect(
        "control LoRA of FLUX.1 Depth and Canny",
        r"\.(query|key)_norm\.scale$|\.set_weight$|\.reshape_weight$",
        "double_blocks.0.img_attn.norm.key_norm.scale",
        "https://huggingface.co/black-forest-labs/FLUX.1-Canny-dev-lora",
        "it widens the network's input from 64 to 128 channels and replaces norms; load the FLUX.1 Depth or Canny "
        "checkpoint itself",
    ),
    Dialect("DyLoRA", r"\.(up|down)_list\.\d+", "lora_unet_X.up_list.0", _LYCORIS, "extract one rank of it first"),
    Dialect("VeRA", r"\.vera_", "base_model.model.X.vera_lambda_b", f"arXiv 2310.11454; {_PEFT}", _MERGE),
    Dialect("layers trained in full", r"\.modules_to_save\.", "X.modules_to_save.weight", _PEFT, _MERGE),
    Dialect(
        "ControlNet-LLLite", r"^lllite_", "lllite_unet_X.down.0.weight", _KOHYA, "it is not a change of the weights"
    ),
    Dialect(
        "Control-LoRA of Stability AI",
        r"^lora_controlnet$|^input_hint_block\.",
        "lora_controlnet",
        "https://huggingface.co/stabilityai/control-lora",
        "it is a ControlNet; pass a complete one as controlnet=",
    ),
    Dialect(
        "IP-Adapter",
        r"^(ip_adapter|image_proj)\.",
        "ip_adapter.1.to_k_ip.weight",
        "https://github.com/tencent-ailab/IP-Adapter",
        "picture prompts are not supported",
    ),
)
"""All known kinds, the particular before the general."""

# Files that are not adapters: the keys that tell them, what they are, and what to do with them.
_OTHER_FILES = (
    (r"^emb_params$|^clip_[lg]$|^text_encoders_[01]$|^string_to_param", "a textual inversion; use pipe.load_embedding"),
    (
        r"^model\.diffusion_model\.|^first_stage_model\.|^cond_stage_model\.|^conditioner\.",
        "a whole checkpoint in the original layout; use Pipeline.from_single_file",
    ),
    (r"^control_model\.|^controlnet_", "a ControlNet; use controlnet="),
    (r"^(encoder|decoder)\.(conv_in|down|up|mid)", "an autoencoder"),
    (r"^(double_blocks|input_blocks)\.\d+\..*\.weight$", "a network's weights; use Pipeline.from_single_file"),
)
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


def recognize(keys: Iterable[str]) -> list[Dialect]:
    """The rows of the table that some of the keys of a file belong to."""
    names = list(keys)
    return [row for row in DIALECTS if any(re.search(row.keys, name) for name in names)]


def refusal(key: str) -> Dialect | None:
    """The row of a refused kind that a key belongs to; None if there is none."""
    return next((row for row in DIALECTS if row.refused is not None and re.search(row.keys, key)), None)


def other_file(keys: Iterable[str]) -> str | None:
    """What a file is whose keys are not those of an adapter; None if that is not known."""
    names = list(keys)
    return next((text for sign, text in _OTHER_FILES if any(re.search(sign, name) for name in names)), None)


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
