"""Names of a pipeline's layers in the dialects of LoRA files.

kohya joins the parts of a path with underscores after lora_unet_, lora_te_, lora_te1_ or lora_te2_. Diffusers and PEFT
join them with dots after unet., transformer., text_encoder., text_encoder_2. or base_model.model.; other programs after
diffusion_model. The path is that of the Hub's layout or of the original layout, in which Flux.1 fuses projections.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from sadaflow.models import FluxTransformer, UNet

from ..single_file.flux import from_original, hub_names, original_modules
from ..single_file.unet import original_module

Split = Callable[[Tensor], dict[str, Tensor]]

_TEXTS = {
    "text_encoder": ("text_encoder.", ("lora_te_", "lora_te1_")),
    "text_encoder_2": ("text_encoder_2.", ("lora_te2_", "lora_te3_")),
}
_FACTORS = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".alpha": "alpha",
}
_OLD_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


@dataclass(frozen=True)
class Target:
    """The weights that a low-rank product is added to.

    Attributes:
        component: Name of the network: unet, transformer, text_encoder or text_encoder_2.
        weights: Names of the parameters in it; several if the file fuses them.
        split: From the product to the part of each parameter, by its name.
    """

    component: str
    weights: tuple[str, ...]
    split: Split


def parse(key: str) -> tuple[str, str] | None:
    """Split a key of a LoRA file.

    Returns:
        The layer, in one spelling per dialect, and "down", "up" or "alpha"; None if the key is not part of a LoRA.
    """
    for suffix, part in _FACTORS.items():
        if key.endswith(suffix):
            layer = (
                key[: -len(suffix)]
                .removeprefix("base_model.model.")
                .replace("model.diffusion_model.", "diffusion_model.")
            )
            if suffix.startswith("_lora.") or ".processor." in layer:
                layer = layer.replace(".processor.", ".")
                layer = re.sub(r"\.to_out$", ".to_out.0", layer)
                if ".self_attn." in layer:
                    head, _, name = layer.replace(".to_out.0", ".to_out").rpartition(".")
                    layer = f"{head}.{_OLD_TEXT.get(name, name)}"
            return layer, part
    return None


def list_targets(components: Mapping[str, nn.Module]) -> dict[str, Target]:
    """Every linear and convolutional layer of a pipeline, by each of its spellings.

    Args:
        components: The networks by name: unet, transformer, text_encoder, text_encoder_2.
    """
    found: dict[str, Target] = {}
    for component, module in components.items():
        spell = _text_spellings if component in _TEXTS else _network_spellings
        for spellings, target in spell(component, module):
            for spelling in spellings:
                found.setdefault(spelling, target)
    return found


def _layers(module: nn.Module) -> list[str]:
    return [name for name, layer in module.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]


def _whole(component: str, name: str) -> Target:
    weight = f"{name}.weight"
    return Target(component, (weight,), partial(_alone, weight))


def _alone(weight: str, product: Tensor) -> dict[str, Tensor]:
    return {weight: product}


def _text_spellings(component: str, module: nn.Module) -> Iterator[tuple[list[str], Target]]:
    dotted, joined = _TEXTS[component]
    clip = any("self_attn" in name for name in _layers(module))
    for name in _layers(module):
        # The published spelling; that of the network depends on the version of `transformers`.
        path = f"text_model.{name}" if clip and not name.startswith("text_") else name
        spellings = [dotted + path, *(prefix + path.replace(".", "_") for prefix in joined)]
        yield spellings, _whole(component, name)


def _network_spellings(component: str, module: nn.Module) -> Iterator[tuple[list[str], Target]]:
    def spellings(path: str) -> list[str]:
        joined = path.replace(".", "_")
        dotted = [path, f"{component}.{path}", f"diffusion_model.{path}"]
        return [*dotted, f"lora_unet_{joined}", f"lora_transformer_{joined}"]

    layers = _layers(module)
    for name in layers:
        yield spellings(name), _whole(component, name)
    if isinstance(module, UNet) and len(set(module.config.layers_per_block)) == 1:
        for name in layers:
            if name != "class_embedding":  # the original layout does not have it
                yield spellings(original_module(name, module.config)), _whole(component, name)
    if isinstance(module, FluxTransformer):
        for path in original_modules(module.config):
            yield spellings(path), _fused(component, path)


def _fused(component: str, path: str) -> Target:
    weight = f"{path}.weight"
    return Target(component, hub_names(weight), partial(from_original, weight))
