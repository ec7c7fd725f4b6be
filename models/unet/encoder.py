"""The half of a latent-diffusion U-Net that ControlNets share: embeddings, the way down and the middle."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import TransformerBlock
from ..conv import Conv2d
from ..embeddings import TimestepEmbedding, sinusoids
from ..resnet import Downsample, ResnetBlock
from ..seam import Seam, call_through
from .config import UNetConfig
from .levels import Inputs, Level, Middle


class UNetEncoder(nn.Module):
    """Embeddings, downward levels and middle of a conditional U-Net.

    Args:
        config: the architecture.
    """

    shift_widths: dict[str, int]
    """Residual block name -> number of channels it shifts, in the order of `prepare_times`."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.shells = config.shells
        widths, levels = config.block_out_channels, config.levels
        self.conv_in = Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0], config.guidance_width)
        if config.added_width is not None:
            self.add_embedding = TimestepEmbedding(config.added_width, 4 * widths[0])
        if config.class_width is not None:
            self.class_embedding: nn.Module = nn.Linear(config.class_width, 4 * widths[0])
        elif config.classes is not None:
            self.class_embedding = nn.Embedding(config.classes, 4 * widths[0])
        downs: list[nn.Module] = []
        for level, width in enumerate(widths):
            inputs = [widths[max(level - 1, 0)]] + [width] * (config.layers_per_block[level] - 1)
            down = ("downsamplers", Downsample(width, pad_after=config.pad_after)) if level < levels - 1 else None
            downs.append(Level(config, level, inputs, down))
        self.down_blocks = nn.ModuleList(downs)
        self.mid_block = Middle(config)
        self._measure()

    @property
    def skip_widths(self) -> list[int]:
        """Channels of each skip connection, outermost first."""
        widths = self.config.block_out_channels
        return [widths[level if layer else max(level - 1, 0)] for level, layer in self.shells]

    def prepare(
        self,
        context: Tensor | None = None,
        *,
        pooled: Tensor | None = None,
        time_ids: Tensor | None = None,
        class_vector: Tensor | None = None,
        class_labels: Tensor | None = None,
        guidance: Tensor | None = None,
        beside: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt share; arguments and errors as in `UNet.forward`.

        Returns:
            "text": keys and values of all cross-attentions, concatenated (B, M, width); "added", "label" and
            "guidance": embeddings (B, dim) of the other conditions; "beside": as given. Absent ones are left out.
        """
        config, dtype = self.config, self.conv_in.weight.dtype
        for name, value, width in (
            ("pooled", pooled, config.added_width),
            ("time_ids", time_ids, config.added_width),
            ("class_vector", class_vector, config.class_width),
            ("class_labels", class_labels, config.classes),
            ("guidance", guidance, config.guidance_width),
        ):
            if (value is None) != (width is None):
                raise ValueError(f"this network {'does not accept' if width is None else 'needs'} {name}=")
        given: dict[str, Tensor] = {} if beside is None else {"beside": beside.to(dtype)}
        if context is not None and (blocks := self._transformer_blocks()):
            texts = [block.attn2.keys_and_values(context.to(dtype)) for block in blocks.values()]
            given["text"] = torch.cat(texts, dim=-1)
        if pooled is not None and time_ids is not None and config.time_id_width is not None:
            ids = self._sinusoids(time_ids.flatten(), config.time_id_width).unflatten(0, time_ids.shape).flatten(1)
            given["added"] = self.add_embedding(torch.cat((pooled.to(dtype), ids.to(dtype)), dim=1))
        if class_vector is not None:
            given["label"] = self.class_embedding(class_vector.to(dtype))
        if class_labels is not None:
            given["label"] = self.class_embedding(class_labels)
        if guidance is not None and config.guidance_width is not None:
            strength = sinusoids(1000 * (guidance.float() - 1), config.guidance_width, cos_first=False, shift=1.0)
            given["guidance"] = self.time_embedding.cond_proj(strength.to(dtype))
        return given

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes the shifts of all residual blocks.

        Args:
            timesteps: (S, 1) or (S, B), timesteps of S steps.
            given: output of `prepare`.

        Returns:
            Concatenated shifts (S, 1 or B, width).
        """
        features = self._sinusoids(timesteps.flatten().float(), self.config.block_out_channels[0])
        features = features.to(self.conv_in.weight.dtype).unflatten(0, timesteps.shape)
        embedding = self.time_embedding(features + given["guidance"] if "guidance" in given else features)
        if "added" in given:
            embedding = embedding + given["added"]
        if "label" in given and not self.config.class_embeddings_concat:
            embedding = embedding + given["label"]
        elif "label" in given:
            label = given["label"].expand(len(timesteps), -1, -1)
            embedding = torch.cat((embedding.expand(-1, label.shape[1], -1), label), dim=-1)
        activated = F.silu(embedding)
        layers = [block.time_emb_proj for block in self._residual_blocks().values()]
        return torch.cat([layer(activated) for layer in layers if layer is not None], dim=-1)

    def inputs(
        self,
        time: Tensor,
        given: Mapping[str, Tensor],
        seam: Seam = call_through,
        residuals: Sequence[Tensor] | None = None,
    ) -> Inputs:
        """Splits the inputs of one evaluation by layer.

        Args:
            time: (1 or B, width), one step of `prepare_times`.
            given: output of `prepare`, with the rows that are evaluated.
            seam: called at each site.
            residuals: see `UNet.forward`.
        """
        texts = _by_name(given["text"], self._text_widths) if "text" in given else {}
        return Inputs(_by_name(time, self.shift_widths), texts, seam, residuals)

    def _residual_blocks(self) -> dict[str, ResnetBlock]:
        """All residual blocks by name."""
        return {name: module for name, module in self.named_modules() if isinstance(module, ResnetBlock)}

    def _transformer_blocks(self) -> dict[str, TransformerBlock]:
        """All transformer blocks by name."""
        return {name: module for name, module in self.named_modules() if isinstance(module, TransformerBlock)}

    def _measure(self) -> None:
        """Stores the widths that `inputs` splits by; called once all blocks exist.

        They are stored because torch.compile does not trace cached properties.
        """
        self.shift_widths = {name: block.conv1.out_channels for name, block in self._residual_blocks().items()}
        blocks = self._transformer_blocks().items()
        self._text_widths = {name: 2 * block.attn2.to_q.out_features for name, block in blocks}

    def _sinusoids(self, values: Tensor, dim: int) -> Tensor:
        """Sinusoidal features by the config's conventions."""
        return sinusoids(values, dim, cos_first=self.config.flip_sin_to_cos, shift=self.config.freq_shift)

    def advance(self, skip: Tensor, inputs: Inputs, shell: int) -> Tensor:
        """Computes skip connection `shell + 1` from skip connection `shell`: one layer or the level's downsampler.

        From the last skip connection it runs the middle, whose output starts the way up.
        """
        level, layer = self.shells[shell]
        down = cast(Level, self.down_blocks[level])
        if layer < self.config.layers_per_block[level]:
            return down.layer(layer, skip, inputs, f"down_blocks.{level}", level)
        if level < self.config.levels - 1:
            return down.downsamplers[0](skip)
        return self.mid_block(skip, inputs, level)


def _by_name(side_by_side: Tensor, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """Splits a tensor (..., sum of the widths) by the names of the layers that read each part."""
    return dict(zip(widths, side_by_side.split(list(widths.values()), dim=-1), strict=True))
