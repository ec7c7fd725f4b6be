"""Names of a pipeline's layers in the dialects of adapter files.

kohya's tools join the parts of a path with underscores after lora_unet_, lora_te_, lora_te1_ or lora_te2_. Diffusers
and PEFT join them with dots after unet., transformer., text_encoder., text_encoder_2. or base_model.model.; ComfyUI
after diffusion_model. or text_encoders. The path is that of the Hub's layout or of the original layout, which fuses
projections of attention.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from torch import Tensor, nn

from sadaflow.models import UNet
from sadaflow.models.original_layout import OriginalLayout

from ..single_file.unet import original_module
from .targets import Layer, Target, fused, whole

_TEXTS = {
    "text_encoder": (
        ("text_encoder.", "clip_l.", "clip_h."),
        ("lora_te_", "lora_te1_"),
    ),
    "text_encoder_2": (
        ("text_encoder_2.", "clip_g.", "t5xxl.", "t5."),
        ("lora_te2_", "lora_te3_"),
    ),
    "text_encoder_3": (
        ("text_encoder_3.", "t5xxl.", "t5."),
        ("lora_te3_",),
    ),
}
_NETWORKS = ("lora_unet_", "lora_transformer_", "lycoris_", "oft_unet_")
_LAYERS = (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Embedding)
_XLABS = {  # the modules that XLabs' processors add to, by their names in the original layout
    "double_blocks": (
        ("qkv_lora1", "img_attn.qkv"),
        ("proj_lora1", "img_attn.proj"),
        ("qkv_lora2", "txt_attn.qkv"),
        ("proj_lora2", "txt_attn.proj"),
    ),
    "single_blocks": (("proj_lora", "linear2"),),
}


def list_targets(components: Mapping[str, nn.Module]) -> dict[str, Layer]:
    """Every layer of a pipeline that adapters change, by each of its spellings.

    A path without the name of its network, as PEFT writes it, counts if a single network has it.

    Args:
        components: The networks by name: unet, transformer, text_encoder, text_encoder_2.
    """
    found: dict[str, Layer] = {}
    plain: dict[str, list[Layer]] = {}
    for component, module in components.items():
        spell = _text_spellings if component in _TEXTS else _network_spellings
        for path, spellings, layer in spell(component, module):
            plain.setdefault(path, []).append(layer)
            for spelling in spellings:
                found.setdefault(spelling, layer)
    for path, layers in plain.items():
        if len({layer.component for layer in layers}) == 1:
            found.setdefault(path, layers[0])
    return found


Spelled = tuple[str, list[str], Layer]
"""A layer with its path and its other spellings."""


def _layers(module: nn.Module) -> Iterator[tuple[str, Layer]]:
    """The layers of a network under their own names; `component` is filled in by the caller."""
    parameters = {name for name, _ in module.named_parameters()}
    for name, layer in module.named_modules():
        known = isinstance(layer, _LAYERS) or type(layer).__name__.endswith("LayerNorm")
        if known and f"{name}.weight" in parameters:
            bias = whole("", f"{name}.bias") if f"{name}.bias" in parameters else None
            yield name, Layer("", whole("", f"{name}.weight"), bias)


def _text_spellings(component: str, module: nn.Module) -> Iterator[Spelled]:
    dotted, joined = _TEXTS[component]
    names = dict(_layers(module))
    clip = any("self_attn" in name for name in names)
    for name, layer in names.items():
        paths = {name: None}
        if clip and not name.startswith("text_projection"):
            # The published spelling has "text_model."; that of the network depends on the version of `transformers`.
            bare = name.removeprefix("text_model.")
            paths = dict.fromkeys((f"text_model.{bare}", bare))
        for path in paths:
            spellings = [prefix + path for prefix in dotted]
            spellings += [prefix + path.replace(".", "_") for prefix in joined]
            yield path, spellings, layer.of(component)


def _network_spellings(component: str, module: nn.Module) -> Iterator[Spelled]:
    def spelled(path: str, layer: Layer) -> Spelled:
        joined = path.replace(".", "_")
        dotted = [f"{component}.{path}", f"diffusion_model.{path}"]
        return path, [*dotted, *(prefix + joined for prefix in _NETWORKS)], layer.of(component)

    layers = dict(_layers(module))
    for name, layer in layers.items():
        yield spelled(name, layer)
    if isinstance(module, UNet) and len(set(module.config.layers_per_block)) == 1:
        for name, layer in layers.items():
            if name != "class_embedding":  # the original layout does not have it
                yield spelled(original_module(name, module.config), layer)
    original = getattr(module, "original", None)
    if isinstance(original, OriginalLayout):
        for path, layer in _original_layers(original, {name for name, _ in module.named_parameters()}):
            yield spelled(path, layer)


def _original_layers(original: OriginalLayout, parameters: set[str]) -> Iterator[tuple[str, Layer]]:
    """The layers of the original layout, and those that XLabs' processors name."""
    found = {path: _original(original, path, parameters) for path in original.own_modules(parameters)}
    yield from found.items()
    for path, layer in found.items():
        group, _, rest = path.partition(".")
        index, _, inner = rest.partition(".")
        for name, place in _XLABS.get(group, ()):
            if inner == place:
                yield f"{group}.{index}.{name}", layer
        names = layer.weight.weights
        if group == "single_blocks" and inner == "linear1" and len(names) > 1:
            yield f"{group}.{index}.qkv_lora", Layer("", fused("", names[:3]), None)


def _original(original: OriginalLayout, path: str, parameters: set[str]) -> Layer:
    def target(leaf: str) -> Target | None:
        name = f"{path}.{leaf}"
        names = original.names(name)
        if not parameters.issuperset(names):
            return None
        return Target("", names, partial(original.convert, name), partial(_joined, original, name))

    weight = target("weight")
    assert weight is not None
    return Layer("", weight, target("bias"))


def _joined(original: OriginalLayout, name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: original.join(name, state)}
