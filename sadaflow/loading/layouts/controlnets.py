"""Layouts of ControlNets and of what else steers a network by a picture."""

from .row import Layout

_USE = "controlnet=FILE, beside a checkpoint"
_UNET = ("input_hint_block.0.weight", "zero_convs.0.0.weight", "input_blocks.0.0.weight")
_FOLDER = "a file alone does not say its use (num_mode, ...): use controlnet=FOLDER with config.json, or a Hub id"
PREFIX = "control_model."

CONTROLNETS = (
    Layout(
        "ControlNet-LLLite", "controlnet", ("lllite_*",), "kohya-ss/controlnet-lllite",
        refused="it modifies the U-Net's projections instead of adding residuals; use a ControlNet",
    ),
    Layout(
        "Control-LoRA", "controlnet", ("lora_controlnet",), "stabilityai/control-lora",
        refused="it holds differences to a U-Net's weights; use a whole ControlNet of the same condition",
    ),
    Layout(
        "difference ControlNet", "controlnet", ("difference",), "kohya-ss/ControlNet-diff-modules",
        refused="it holds differences to SD 1.5's weights; use the whole ControlNet of the same condition",
    ),
    Layout(
        "ControlNet union of XL, the Hub's names", "controlnet", ("controlnet_cond_embedding.*", "task_embedding",
        "control_type_proj.*"), "xinsir/controlnet-union-sdxl-1.0",
        refused="num_control_type: a union ControlNet also reads the type of its picture, which is not supported; use "
        "the ControlNet of a single condition (xinsir/controlnet-canny-sdxl-1.0, -openpose-, -tile-)",
    ),
    Layout(
        "ControlNet, authors' names", "controlnet", tuple(PREFIX + name for name in _UNET),
        "lllyasviel/ControlNet-v1-1", use=_USE, prefix=PREFIX,
    ),
    Layout(
        "ControlNet, authors' names without prefix", "controlnet", _UNET, "thibaud/controlnet-sd21", use=_USE,
    ),
    Layout(
        "ControlNet, the Hub's names", "controlnet", ("controlnet_cond_embedding.conv_in.weight",
        "controlnet_down_blocks.*", "controlnet_mid_block.*"), "diffusers/controlnet-canny-sdxl-1.0", use=_USE,
        lacks=("*motion_modules*", "*temporal*"),
    ),
    Layout(
        "ControlNet of Flux.1 (XLabs)", "controlnet", ("input_hint_block.*", "controlnet_blocks.*", "double_blocks.*"),
        "XLabs-AI/flux-controlnet-collections",
        refused="the authors' names of ControlNets of Flux.1 are not read; use the folder or Hub id of the same one in "
        "the Hub's layout (XLabs-AI/flux-controlnet-canny-diffusers)",
    ),
    Layout(
        "ControlNet union of Flux.1, the Hub's names", "controlnet", ("controlnet_blocks.*",
        "controlnet_mode_embedder.weight"), "InstantX/FLUX.1-dev-Controlnet-Union, Shakker-Labs",
        refused=_FOLDER,
    ),
    Layout(
        "ControlNet of a transformer, the Hub's names", "controlnet", ("controlnet_blocks.*", "transformer_blocks.*"),
        "Shakker-Labs/FLUX.1-dev-ControlNet-Depth, InstantX/SD3-Controlnet-Canny",
        refused=_FOLDER,
    ),
    Layout(
        "T2I-Adapter", "controlnet", ("*body.*.block1.weight", "*conv_in.weight"), "TencentARC/T2I-Adapter",
        lacks=("*middle_block*",), refused="T2I-Adapters are not supported; use a ControlNet of the same condition",
    ),
    Layout(
        "T2I-Adapter, the Hub's names", "controlnet", ("adapter.body.*",), "TencentARC/t2i-adapter-canny-sdxl-1.0",
        refused="T2I-Adapters are not supported; use a ControlNet of the same condition",
    ),
    Layout(
        "IP-Adapter", "adapter", (), "h94/IP-Adapter, XLabs-AI/flux-ip-adapter",
        keys=r"^(ip_adapter|image_proj)[._]", example="ip_adapter.1.to_k_ip.weight",
        refused="IP-Adapters read a picture beside the prompt, which is not supported",
    ),
)
