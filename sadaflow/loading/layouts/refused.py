"""Number formats and architectures that are not loaded, each with the reason."""

from .row import Layout

_QUANTIZED = "take the file with 16 or 32-bit or plain fp8 weights, and pass quantize= if memory is short"

FORMATS = (
    Layout(
        "nf4 or fp4 weights of bitsandbytes", "format", ("*.quant_state.bitsandbytes__*",),
        "lllyasviel/flux1-dev-bnb-nf4", refused=f"four-bit weights of bitsandbytes are not read: {_QUANTIZED}",
    ),
    Layout(
        "int8 weights of bitsandbytes", "format", ("*.weight", "*.SCB"), "bitsandbytes Linear8bitLt",
        refused=f"eight-bit weights of bitsandbytes are not read: {_QUANTIZED}",
    ),
    Layout(
        "comfy_quant weights", "format", ("*comfy_quant",), "ComfyUI's mixed-precision files",
        refused=f"weights in a format that comfy_quant marks are not read: {_QUANTIZED}",
    ),
    Layout(
        "SVDQuant weights (Nunchaku)", "format", ("*.qweight", "*.wscales"), "nunchaku-tech/nunchaku-flux.1-dev",
        refused=f"SVDQuant weights are not read: {_QUANTIZED}",
    ),
    Layout(
        "GPTQ or AWQ weights", "format", ("*.qweight", "*.qzeros"), "GPTQ, AWQ",
        refused=f"GPTQ and AWQ weights are not read: {_QUANTIZED}",
    ),
    Layout(
        "quanto weights", "format", ("*.weight._data", "*.weight._scale"), "huggingface/optimum-quanto",
        refused=f"quanto weights are not read: {_QUANTIZED}",
    ),
    Layout(
        "DFloat11 weights", "format", ("*.encoded_exponent", "*.sign_mantissa"), "DFloat11/FLUX.1-dev-DF11",
        refused=f"compressed DFloat11 weights are not read: {_QUANTIZED}",
    ),
)

_OTHER = (
    "files of Stable Diffusion 1.x, 2.x, XL, 3 and 3.5, Flux.1, FLUX.2, Chroma, Qwen-Image, Z-Image and Wan are loaded"
)


def _model(name: str, source: str, *has: str, lacks: tuple[str, ...] = ()) -> Layout:
    return Layout(name, "network", has, source, lacks=lacks, refused=f"{name} is not supported: {_OTHER}")


MODELS = (
    _model("HunyuanVideo", "tencent/HunyuanVideo", "*txt_in.individual_token_refiner.*"),
    _model("AuraFlow", "fal/AuraFlow", "*double_layers.*.attn.w1q.weight"),
    _model("LTX-Video", "Lightricks/LTX-Video", "*patchify_proj.weight"),
    _model("Wan VACE", "Wan-AI/Wan2.1-VACE-14B", "*vace_blocks.*", "*vace_patch_embedding.weight"),
    _model("Mochi", "genmo/mochi-1-preview", "*blocks.*.attn.qkv_x.weight"),
    _model("Sana", "Efficient-Large-Model/Sana_1600M_1024px", "*blocks.*.cross_attn.kv_linear.weight"),
    _model("Lumina Image 2", "Alpha-VLLM/Lumina-Image-2.0", "*cap_embedder.0.weight", lacks=("*cap_pad_token",)),
    _model("Stable Cascade", "stabilityai/stable-cascade", "*down_blocks.*.channelwise.*"),
    _model("Stable Cascade", "stabilityai/stable-cascade", "*clip_txt_mapper.weight"),
    _model("Stable Video Diffusion", "stabilityai/stable-video-diffusion-img2vid", "*time_stack.*"),
    _model("AnimateDiff motion module", "guoyww/animatediff", "*motion_modules.*"),
    _model("Stable Diffusion x4 upscaler", "stabilityai/stable-diffusion-x4-upscaler", "*label_emb.weight"),
    _model("Stable unCLIP", "stabilityai/stable-diffusion-2-1-unclip", "*noise_augmentor.*"),
    _model("GLIGEN", "gligen/gligen-generation-text-box", "*position_net.*"),
    _model("Zero123", "cvlab/zero123-weights", "cc_projection.*"),
    _model("AltDiffusion", "BAAI/AltDiffusion", "cond_stage_model.roberta.*"),
    _model("PixArt", "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", "*adaln_single.*"),
    _model("CosXL, an EDM schedule", "stabilityai/cosxl", "edm_vpred.*"),
    _model("Playground 2.5", "playgroundai/playground-v2.5-1024px-aesthetic", "edm_mean", "edm_std"),
    _model("DC-AE, an autoencoder", "mit-han-lab/dc-ae-f32c32-in-1.0", "*decoder.stages.*.op_list.*"),
)
