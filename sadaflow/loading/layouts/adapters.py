"""Dialects of adapters and embeddings; `load_lora` reads those that are not refused."""

from .row import Layout

_USE = "pipe.load_lora(FILE)"

ADAPTERS = (
    Layout("LoRA, kohya's names", "adapter", ("lora_*.lora_down.weight",), "kohya-ss/sd-scripts", use=_USE),
    Layout("LoRA, Diffusers' and PEFT's names", "adapter", ("*.lora_A.weight",), "huggingface/peft", use=_USE),
    Layout("LoRA, Diffusers' and PEFT's names", "adapter", ("*.lora_A.default.weight",), "huggingface/peft", use=_USE),
    Layout("LoRA, old Diffusers names", "adapter", ("*.lora.down.weight",), "huggingface/diffusers 0.2x", use=_USE),
    Layout("LoRA, old Diffusers names", "adapter", ("*_lora.down.weight",), "huggingface/diffusers 0.1x", use=_USE),
    Layout("LoRA, other names", "adapter", ("*.lora_down.weight",), "OneTrainer, ComfyUI", use=_USE),
)
