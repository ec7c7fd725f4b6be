"""Architecture of a U-Net without text, read from the config.json of the Hub's UNet2DModel."""

from collections.abc import Mapping
from typing import Any, Final

from .config import UNetConfig, check_consistency, levels_with
from .fields_2d import OWNER, TABLE_2D

_ATTENDING: Final = ("AttnDownBlock2D", "AttnUpBlock2D")
_DOWNS: Final = ("DownBlock2D", *["AttnDownBlock2D"] * 3)
_UPS: Final = (*["AttnUpBlock2D"] * 3, "UpBlock2D")
_OLD: Final = "UNetRes"
_PADDINGS: Final = (0, 1)


def unet_2d_config(raw: Mapping[str, Any]) -> UNetConfig:
    """Reads the config.json of a UNet2DModel: residual blocks, and attention over the positions of the map.

    Args:
        raw: the JSON object.

    Raises:
        ValueError: if a field has a wrong value or requires an unsupported feature.
    """
    values = TABLE_2D.read(raw)
    widths = values.get("block_out_channels", (224, 448, 672, 896))
    head = values.get("attention_head_dim", 8)
    padding = values.get("downsample_padding", 1)
    if padding not in _PADDINGS:
        raise ValueError(f"{OWNER} config: downsample_padding={padding:g} is not supported; supported: 0, 1")
    downs, ups = (
        [block.removeprefix(_OLD) for block in values.get(name, default)]
        for name, default in (("down_block_types", _DOWNS), ("up_block_types", _UPS))
    )
    levels = len(widths)
    if head is not None and any(width % head for width in widths):
        raise ValueError(f"{OWNER} config: attention_head_dim={head} does not divide block_out_channels={list(widths)}")
    config = UNetConfig(
        sample_size=values.get("sample_size"),
        in_channels=values.get("in_channels", 3),
        out_channels=values.get("out_channels", 3),
        block_out_channels=widths,
        cross_attention=levels_with(OWNER, _ATTENDING, downs, ups, levels),
        layers_per_block=(values.get("layers_per_block", 2),) * levels,
        transformer_layers_per_block=(1,) * levels,
        heads=tuple(1 if head is None else width // head for width in widths),
        cross_attention_dim=widths,
        use_linear_projection=False,
        norm_num_groups=values.get("norm_num_groups", 32),
        norm_eps=values.get("norm_eps", 1e-5),
        flip_sin_to_cos=values.get("flip_sin_to_cos", True),
        freq_shift=values.get("freq_shift", 0.0),
        mid_attention=values.get("add_attention", True),
        added_width=None,
        time_id_width=None,
        class_width=None,
        class_embeddings_concat=False,
        spatial_attention=True,
        pad_after=padding == 0,
        classes=values.get("num_class_embeds"),
    )
    check_consistency(OWNER, config, values.get("time_embedding_dim"))
    return config


def unet_2d_dict(config: UNetConfig) -> dict[str, Any]:
    """Returns the fields of a config.json that `unet_2d_config` reads as this architecture."""
    first = config.block_out_channels[0] // config.heads[0]
    shift = config.freq_shift
    labels = {} if config.classes is None else {"num_class_embeds": config.classes}
    return {
        "_class_name": OWNER,
        "sample_size": config.sample_size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": list(config.block_out_channels),
        "down_block_types": [_ATTENDING[0] if has else _DOWNS[0] for has in config.cross_attention],
        "up_block_types": [_ATTENDING[1] if has else _UPS[-1] for has in reversed(config.cross_attention)],
        "layers_per_block": config.layers_per_block[0],
        "attention_head_dim": None if set(config.heads) == {1} else first,
        "norm_num_groups": config.norm_num_groups,
        "norm_eps": config.norm_eps,
        "flip_sin_to_cos": config.flip_sin_to_cos,
        "freq_shift": int(shift) if shift == int(shift) else shift,
        "add_attention": config.mid_attention,
        "downsample_padding": 0 if config.pad_after else 1,
        **labels,
    }
