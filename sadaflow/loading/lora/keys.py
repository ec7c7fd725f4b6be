"""Splits the keys of adapter files into a layer and a part of its change."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_ADAPTER = r"(?:\.(?!weight$|bias$)\w+)?"  # PEFT's name of the adapter, "default" if it is written at all
_PARTS = [
    (r"\.lora_(?:down|A)" + _ADAPTER + r"\.weight", "down"),
    (r"\.lora_(?:up|B)" + _ADAPTER + r"\.weight", "up"),
    (r"\.lora_mid\.weight", "mid"),
    (r"\.lora_(?:up|B)" + _ADAPTER + r"\.bias", "up_bias"),
    (r"\.lora_embedding_A" + _ADAPTER, "embedding_down"),
    (r"\.lora_embedding_B" + _ADAPTER, "embedding_up"),
    (r"\.lora_linear_layer\.down\.weight", "down"),
    (r"\.lora_linear_layer\.up\.weight", "up"),
    (r"\.lora\.down\.weight", "down"),
    (r"\.lora\.up\.weight", "up"),
    (r"(?<=_lora[12])\.down\.weight", "down"),
    (r"(?<=_lora[12])\.up\.weight", "up"),
    (r"_lora\.down\.weight", "down"),
    (r"_lora\.up\.weight", "up"),
    (r"\.dora_scale", "magnitude_in"),
    (r"\.lora_magnitude_vector" + _ADAPTER + r"(?:\.weight)?", "magnitude"),
    *((rf"\.hada_{part}{_ADAPTER}", f"hada_{part}") for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    *((rf"\.lokr_{part}{_ADAPTER}", f"lokr_{part}") for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t2", "w1", "w2")),
    (r"\.ia3_l" + _ADAPTER, "ia3"),
    (r"\.on_input", "on_input"),
    (r"\.oft_blocks", "oft_blocks"),
    (r"\.oft_R" + _ADAPTER + r"\.weight", "oft_R"),
    (r"\.boft_R" + _ADAPTER, "boft_R"),
    (r"\.boft_s" + _ADAPTER, "boft_s"),
    (r"\.rescale", "rescale"),
    *((rf"\.{part}\.weight", f"glora_{part}") for part in ("a1", "a2", "b1", "b2", "bm")),
    (r"\.diff", "diff"),
    (r"\.diff_b", "diff_b"),
    (r"\.w_norm", "diff"),
    (r"\.b_norm", "diff_b"),
    (r"\.scalar", "scalar"),
    (r"\.alpha", "alpha"),
]
_COMPILED = [(re.compile(rf"(.+?){suffix}"), part) for suffix, part in _PARTS]
_IA3_WEIGHT = ".weight"
_XLABS = re.compile(r"(?:.*\.)?((?:double|single)_blocks\.\d+)\.processor\.((?:qkv|proj)_lora[12]?)\.(down|up)\.weight")
_OLD_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_LONGEST = 500


@dataclass(frozen=True)
class Key:
    """A key of an adapter file.

    Attributes:
        layer: The layer, in one spelling per dialect.
        part: Which part of its change the tensor is: "down", "up", "alpha", "hada_w1_a", "diff" and others.
        spelled: The layer as the file spells it.
    """

    layer: str
    part: str
    spelled: str


def ia3_layers(names: Iterable[str]) -> frozenset[str]:
    """The layers that a file of LyCORIS changes by (IA)3, whose other keys look like those of weights."""
    return frozenset(name.removesuffix(".on_input") for name in names if name.endswith(".on_input"))


def parse(key: str, ia3: frozenset[str] = frozenset()) -> Key | None:
    """Split a key of an adapter file.

    Args:
        key: The key.
        ia3: Layers with a key ".on_input": their ".weight" is LyCORIS's (IA)3 vector.

    Returns:
        Its parts; None if it is not a part of an adapter.
    """
    if len(key) > _LONGEST:
        return None
    if xlabs := _XLABS.fullmatch(key):
        block, name, part = xlabs.groups()
        return Key(f"{block}.{name}", part, key.rpartition(f".{part}.")[0])
    if key.endswith(_IA3_WEIGHT) and (spelled := key.removesuffix(_IA3_WEIGHT)) in ia3:
        return Key(normal(spelled), "lycoris_ia3", spelled)
    for pattern, part in _COMPILED:
        if match := pattern.fullmatch(key):
            spelled = match[1]
            old = "_lora." in key[len(spelled) :] or ".processor." in spelled
            return Key(_old(normal(spelled)) if old else normal(spelled), part, spelled)
    return None


def normal(layer: str) -> str:
    """The spelling of a layer without the prefixes that do not tell layers apart."""
    layer = layer.removeprefix("base_model.model.").removesuffix(".base_layer")
    layer = layer.replace("model.diffusion_model.", "diffusion_model.")
    match = re.fullmatch(r"(?:text_encoders\.)?(clip_[lgh]|t5xxl)\.(?:transformer\.)?(.+)", layer)
    return f"{match[1]}.{match[2]}" if match else layer


def _old(layer: str) -> str:
    """The spelling of a layer in files of Diffusers before 0.22, which name attention processors."""
    layer = layer.replace(".processor.", ".")
    layer = re.sub(r"\.to_out$", ".to_out.0", layer)
    if ".self_attn." in layer:
        head, _, name = layer.replace(".to_out.0", ".to_out").rpartition(".")
        layer = f"{head}.{_OLD_TEXT.get(name, name)}"
    return layer
