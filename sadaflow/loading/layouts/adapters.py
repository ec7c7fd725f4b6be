"""Dialects of adapter files and textual inversions, each with its source: what is read, and what is refused.

Which layer a key belongs to is decided in `loading.lora.names`, and which part of its change it is in
`loading.lora.keys`.
"""

from .row import Layout

_USE, _WORD = "pipe.load_lora(FILE)", "pipe.load_embedding(FILE, token=WORD)"
_DIFFUSERS = "https://github.com/huggingface/diffusers, loaders/lora_pipeline.py"
_PEFT = "https://github.com/huggingface/peft"
_KOHYA = "https://github.com/kohya-ss/sd-scripts"
_LYCORIS = "https://github.com/KohakuBlueleaf/LyCORIS"
_COMFY = "https://github.com/comfyanonymous/ComfyUI"
_INVERSION = "arXiv 2208.01618"
_MERGE = "it is not supported: merge it with the program that made it, and load the merged checkpoint"
_LORA = r"lora_(down|up|mid|A|B)\b|\.(alpha|diff(_b)?|dora_scale|hada_\w+|lokr_\w+)$"


def _row(name: str, keys: str, example: str, source: str, refused: str | None = None, *has: str) -> Layout:
    """A dialect or form of adapters: `keys` matches one of its keys, and each pattern of `has` another one."""
    use = _USE if refused is None else ""
    return Layout(name, "adapter", has, source, keys=keys, example=example, refused=refused, use=use)


def _inversion(name: str, keys: str, example: str, source: str, width: int | None = None) -> Layout:
    shape = None if width is None else ("*", -1, width)
    return Layout(name, "embedding", (), source, keys=keys, example=example, shape=shape, use=_WORD)


REFUSED_ADAPTERS = (
    _row(
        "control LoRA of FLUX.1 Depth and Canny",
        r"\.(query|key)_norm\.scale$|\.set_weight$|\.reshape_weight$",
        "double_blocks.0.img_attn.norm.key_norm.scale",
        "https://huggingface.co/black-forest-labs/FLUX.1-Canny-dev-lora",
        "it widens the network's input from 64 to 128 channels and replaces norms; load the FLUX.1 Depth or Canny "
        "checkpoint itself",
        "*.lora_*",
    ),
    _row(
        "DyLoRA", r"\.(up|down)_list\.\d+", "lora_unet_X.up_list.0", _LYCORIS,
        "it holds all ranks at once; extract one rank of it first",
    ),
    _row("VeRA", r"\.vera_", "base_model.model.X.vera_lambda_b", f"arXiv 2310.11454; {_PEFT}", _MERGE),
    _row("layers trained in full", r"\.modules_to_save\.", "base_model.model.X.modules_to_save.weight", _PEFT, _MERGE),
)  # fmt: skip

_FORMS = (
    _row("LoCon with a middle factor", r"\.lora_mid\.weight$", "lora_unet_X.lora_mid.weight", _LYCORIS),
    _row("LoHa", r"\.hada_w1_a", "lora_unet_X.hada_w1_a", f"{_LYCORIS}; {_PEFT}"),
    _row("LoKr", r"\.lokr_w[12]", "lora_unet_X.lokr_w1", f"{_LYCORIS}; {_PEFT}"),
    _row("DoRA", r"\.dora_scale$|\.lora_magnitude_vector", "lora_unet_X.dora_scale", f"arXiv 2402.09353; {_PEFT}"),
    _row(
        "(IA)3", r"\.ia3_l|\.on_input$", "base_model.model.X.ia3_l", f"arXiv 2205.05638; {_PEFT}; {_LYCORIS}"
    ),
    _row("OFT of kohya and LyCORIS", r"\.oft_blocks$", "oft_unet_X.oft_blocks", f"{_KOHYA}; {_LYCORIS}"),
    _row("OFT of PEFT", r"\.oft_R", "base_model.model.X.oft_R.weight", f"arXiv 2306.07280; {_PEFT}"),
    _row("BOFT of PEFT", r"\.boft_[Rs]", "base_model.model.X.boft_R", f"arXiv 2311.06243; {_PEFT}"),
    _row("GLoRA", r"\.a1\.weight$", "lora_unet_X.a1.weight", f"arXiv 2306.07967; {_LYCORIS}"),
    _row("full differences", r"\.diff(_b)?$", "lora_unet_X.diff", f"{_LYCORIS}; {_COMFY}"),
    _row("norms", r"\.[wb]_norm$", "lora_unet_X.w_norm", _LYCORIS),
    _row("bundled textual inversions", r"^bundle_emb\.", "bundle_emb.NAME.emb_params", _KOHYA),
)  # fmt: skip

_DIALECTS = (
    _row(
        "LoRA of kohya, Flux.1",
        r"^lora_unet_(double|single)_blocks_",
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight",
        f"{_KOHYA}, networks/lora_flux.py",
    ),
    _row(
        "LoRA of kohya, sgm names",
        r"^lora_unet_(input|middle|output)_",
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
        f"{_KOHYA}, networks/lora.py",
    ),
    _row(
        "LoRA of kohya",
        r"^(lora_unet|lora_te\d?)_.*\.lora_(down|up)\.weight$",
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        f"{_KOHYA}, networks/lora.py",
    ),
    _row(
        "LoRA of OneTrainer",
        r"^lora_transformer_|^(unet|transformer|clip_[lg]|t5)\..*\.lora_(down|up)\.weight$",
        "lora_transformer_single_transformer_blocks_0_attn_to_q.lora_down.weight",
        "https://github.com/Nerogar/OneTrainer",
    ),
    _row(
        "LoRA of PEFT",
        rf"^base_model\.model\..*({_LORA}|lora_embedding_)",
        "base_model.model.mid_block.attentions.0.proj_in.lora_A.weight",
        f"{_PEFT}, utils/save_and_load.py",
    ),
    _row(
        "LoRA of Diffusers, ai-toolkit",
        r"^(unet|transformer|text_encoder|text_encoder_2)\..*\.lora_[AB]\.",
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
        _DIFFUSERS,
    ),
    _row(
        "LoRA of Diffusers before 0.22",
        r"\.(lora|lora_linear_layer)\.(down|up)\.weight$|to_\w+_lora\.(down|up)\.weight$",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
        _DIFFUSERS,
    ),
    _row(
        "LoRA of XLabs, Flux.1",
        r"_blocks\.\d+\.processor\.(qkv|proj)_lora[12]?\.",
        "double_blocks.0.processor.qkv_lora1.down.weight",
        "https://github.com/XLabs-AI/x-flux",
    ),
    _row(
        "LoRA of ComfyUI",
        rf"^((model\.)?diffusion_model|text_encoders)\..*({_LORA})",
        "diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight",
        _COMFY,
    ),
    _row(
        "LoRA under the layers' own names",
        r"\.lora_(down|up|A|B)\b.*weight$",
        "double_blocks.0.img_attn.qkv.lora_A.weight",
        "black-forest-labs; any program",
    ),
)

ADAPTERS = (*REFUSED_ADAPTERS, *_FORMS, *_DIALECTS)
"""Adapters: kinds that are refused, forms of the change, and dialects of the names, the particular before the general.

A file can be of several of them: a DoRA in kohya's names.
"""

EMBEDDINGS = (
    _inversion("textual inversion of XL", r"^clip_g$", "clip_g", f"{_INVERSION}; {_KOHYA}"),
    _inversion("textual inversion of Flux.1", r"^t5(xxl)?$", "t5", f"{_INVERSION}; {_DIFFUSERS}"),
    _inversion(
        "textual inversion of one text encoder by name", r"^clip_l$|^text_encoders_[01]$", "clip_l",
        f"{_INVERSION}; {_DIFFUSERS}",
    ),
    _inversion("textual inversion of kohya", r"^emb_params$", "emb_params", f"{_INVERSION}; {_KOHYA}"),
    _inversion(
        "textual inversion of AUTOMATIC1111", r"^string_to_param(\..+)?$", "string_to_param.*",
        "https://github.com/AUTOMATIC1111/stable-diffusion-webui",
    ),
    *(
        _inversion(
            f"textual inversion of {width} numbers a vector", r"\A[^\n.]+\Z", "<word>",
            f"{_INVERSION}; {_DIFFUSERS.rpartition('/')[0]}/textual_inversion.py", width,
        )
        for width in (768, 1024, 1280, 4096)
    ),
)  # fmt: skip
"""Textual inversions; one without a name of its own is a single tensor under its word."""
