"""The transformer of Stable Diffusion 3 (Esser et al. 2024), with the names of the Hub's SD3Transformer2DModel."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, cast

from einops import rearrange
from torch import Tensor, nn

from ..embeddings import single_time
from ..original_layout import OriginalLayout
from ..seam import Seam, Site, call_through
from ..streams.modulation import Modulation, modulated, parts_of
from ..streams.steering import Steering, call_trunk
from .block import JointBlock
from .config import PATCH, SD3Config
from .original import original_layout
from .streams import Patches, SD3Streams, joint_blocks


class SD3Transformer(SD3Streams):
    """Stable Diffusion 3 transformer that predicts the flow eps - x0 of latents x (B, C, h, w).

    `forward` runs three parts: `prepare` depends only on the prompt, `prepare_times` on the prompt and the time,
    `evaluate` also on x.

    Sites: the stack of blocks is a "trunk" with `fn(image, text, modulations)`, which maps image tokens (B, N, dim) to
    image tokens, given text tokens (B, L, dim) and the modulations of all blocks (B, width). Image tokens carry their
    positions. ControlNets run inside the trunk, and what they read follows (see `call_trunk`). Inside it, each block is
    a "block" on the joint sequence (text first) with `fn(joint, modulations)`. Its attention, and the second attention
    of some blocks, are an "attention".

    Args:
        config: the architecture.
    """

    sites: ClassVar[frozenset[str]] = frozenset({"trunk", "block", "attention"})
    """Kinds of sites in this network."""

    def __init__(self, config: SD3Config) -> None:
        super().__init__(config, joint_blocks(config, ends=True))
        dim = config.dim
        self.pos_embed = Patches(config.in_channels, dim, config.pos_embed_max_size)
        self.context_embedder = nn.Linear(config.joint_attention_dim, dim)
        self.norm_out = Modulation(dim, 2)
        self.proj_out = nn.Linear(dim, PATCH**2 * config.out_channels)

    @property
    def original(self) -> OriginalLayout:
        """Names in the authors' layout."""
        return original_layout(self.config)

    def forward(
        self, x: Tensor, timestep: Tensor | float, *, context: Tensor, pooled: Tensor, seam: Seam = call_through
    ) -> Tensor:
        """Computes the prediction.

        Args:
            x: (B, C, h, w), h and w even.
            timestep: 1000 t, a number or (B,).
            context: (B, L, joint_attention_dim), text states.
            pooled: (B, pooled_projection_dim), pooled text.
            seam: called at each site.

        Returns:
            The flow (B, C, h, w).

        Raises:
            ValueError: if h or w is odd, or larger than the stored grid of positions.
        """
        given = self.prepare(context=context, pooled=pooled)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam)

    def prepare(self, *, context: Tensor, pooled: Tensor) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt share; arguments as in `forward`.

        Returns:
            "text": tokens (B, L, dim); "pooled": embedding (B, dim).
        """
        return {"text": self.context_embedder(context), "pooled": self.time_text_embed.text_embedder(pooled)}

    @property
    def modulations(self) -> list[Modulation]:
        return [*super().modulations, self.norm_out]

    def evaluate(
        self,
        x: Tensor,
        time: Tensor,
        given: Mapping[str, Tensor],
        seam: Seam = call_through,
        steering: Steering | None = None,
    ) -> Tensor:
        """Computes the prediction at x.

        Args:
            x: (B, C, h, w), h and w even.
            time: (B, width), one step of `prepare_times`.
            given: output of `prepare`, with the rows of x.
            seam: called at each site.
            steering: the ControlNets, if there are any.

        Returns:
            The flow (B, C, h, w).

        Raises:
            ValueError: if h or w is odd, or larger than the stored grid of positions.
        """
        image, size, dim = self.pos_embed(x), (x.shape[-2] // PATCH, x.shape[-1] // PATCH), self.config.dim
        modulations, last = time.split((time.shape[-1] - 2 * dim, 2 * dim), dim=-1)
        trunk = partial(self._trunk, seam=seam, size=size)
        site = Site("trunk", "trunk", 0, size, per_prefix=(0,), probe=self._first_look)
        image = call_trunk(seam, site, trunk, image, (given["text"], modulations), steering)
        scale, shift = parts_of(last, 2)
        tokens = self.proj_out(modulated(image, shift, scale))
        return rearrange(tokens, "b (h w) (p q c) -> b c (h p) (w q)", h=size[0], p=PATCH, q=PATCH)

    def _first_look(self, image: Tensor, text: Tensor, modulations: Tensor, *_: Tensor | None) -> Tensor:
        """Computes the normed and modulated image tokens (B, N, dim) that the first block's attention reads."""
        first = cast(JointBlock, self._blocks[0])
        return first.first_look(image, modulations[:, : first.parts * self.config.dim])
