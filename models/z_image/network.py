"""The Z-Image transformer (Cai et al. 2025, arXiv 2511.22699), with the Hub's ZImageTransformer2DModel's names."""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..embeddings import single_time, sinusoids
from ..norm import RMSNorm
from ..original_layout import OriginalLayout
from ..rope import after_text, rotary_axis, rotary_grid
from ..seam import Seam, Site, call_through
from ..streams.stack import run_blocks
from .block import Block
from .config import OWNER, PATCH, UNIT, ZImageConfig
from .original import ORIGINAL

_FEATURES, _MIDDLE = 256, 1024
_SIZE = f"{PATCH}-1"  # the name of the layers for this size of token


class _TimeEmbedder(nn.Module):
    """Two-layer perceptron on sinusoids of the time."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(_FEATURES, _MIDDLE), nn.SiLU(), nn.Linear(_MIDDLE, dim))

    def forward(self, times: Tensor) -> Tensor:
        features = sinusoids(times.flatten(), _FEATURES).to(next(self.parameters()).dtype)
        return self.mlp(features).unflatten(0, times.shape)


class _FinalLayer(nn.Module):
    """Scaled layer norm and projection to the channels of a token."""

    def __init__(self, config: ZImageConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.dim, PATCH**2 * config.in_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.embedding_dim, config.dim))

    def forward(self, tokens: Tensor, factor: Tensor) -> Tensor:
        return self.linear(F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6) * factor[:, None])


class ZImageTransformer(nn.Module):
    """Z-Image transformer that predicts the flow eps - x0 of latents x (B, C, h, w).

    `forward` runs three parts: `prepare` depends only on the prompt, `prepare_times` on the time, `evaluate` also on x.

    Sites: the blocks on the joint sequence are a "trunk" with `fn(image, text, text_rope, modulations, rope, mask)`,
    which maps image tokens (B, N, dim) to image tokens, given the prefix (text tokens, then those that pad the image)
    with its rotary table, the modulations of all blocks (B, width), the rotary table (B, N, head_dim/2, 2) of the image
    tokens, and which prefix tokens are attended to. Inside it, each block is a "block" on the joint sequence (prefix
    first) with `fn(joint, modulations, rope, mask)`. Its attention is an "attention". The blocks that refine text and
    image before the trunk are no sites.

    Args:
        config: the architecture.
    """

    sites: ClassVar[frozenset[str]] = frozenset({"trunk", "block", "attention"})
    """Kinds of sites in this network."""
    original: ClassVar[OriginalLayout] = ORIGINAL
    """Names in the authors' layout."""

    def __init__(self, config: ZImageConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.all_x_embedder = nn.ModuleDict({_SIZE: nn.Linear(PATCH**2 * config.in_channels, dim)})
        self.all_final_layer = nn.ModuleDict({_SIZE: _FinalLayer(config)})
        refiners = range(config.n_refiner_layers)
        self.noise_refiner = nn.ModuleList([Block(config, True) for _ in refiners])
        self.context_refiner = nn.ModuleList([Block(config, False) for _ in refiners])
        self.t_embedder = _TimeEmbedder(config.embedding_dim)
        self.cap_embedder = nn.Sequential(
            RMSNorm(config.cap_feat_dim, config.norm_eps), nn.Linear(config.cap_feat_dim, dim)
        )
        self.x_pad_token = nn.Parameter(torch.zeros(1, dim))
        self.cap_pad_token = nn.Parameter(torch.zeros(1, dim))
        self.layers = nn.ModuleList([Block(config, True) for _ in range(config.n_layers)])

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | float,
        *,
        context: Tensor,
        length: Tensor,
        mask: Tensor | None = None,
        seam: Seam = call_through,
    ) -> Tensor:
        """Computes the prediction.

        Args:
            x: (B, C, h, w), h and w even.
            timestep: 1000 t, a number or (B,).
            context: (B, L, cap_feat_dim), states of the text encoder; L is a multiple of 32.
            length: (B,), number of tokens of each prompt; states behind them are not read.
            mask: (B, L), bool, which text tokens are attended to: a prompt's, and those that pad it to a multiple of
                32. None if that is all of them for every sample.
            seam: called at each site.

        Returns:
            The flow (B, C, h, w).

        Raises:
            ValueError: if h or w is odd.
        """
        given = self.prepare(context=context, length=length, mask=mask)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam)

    def prepare(self, *, context: Tensor, length: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt share; arguments as in `forward`.

        Returns:
            "text": refined tokens (B, L, dim); "text_rope": their rotary table (B, L, head_dim/2, 2); "frame": that of
            the image's frame (B, 1, axes_dims[0]/2, 2); "mask", if it is given.
        """
        samples, longest = context.shape[:2]
        text = self.cap_embedder(context)
        padded = torch.arange(longest, device=text.device) >= length[:, None]
        text = torch.where(padded[..., None], self.cap_pad_token, text)
        dims, theta = self.config.axes_dims, self.config.rope_theta
        table = rotary_grid((range(1, longest + 1), range(1), range(1)), dims, text.device, theta)
        rope = table.expand(samples, -1, -1, -1)
        for index, block in enumerate(self.context_refiner):
            site = Site("block", f"context_refiner.{index}", 0, (longest, 1))
            text = block(text, None, rope, mask, seam=call_through, site=site)
        frame = rotary_axis(1 + (length + UNIT - 1) // UNIT * UNIT, dims[0], theta)[:, None]
        return {"text": text, "text_rope": rope, "frame": frame, **({} if mask is None else {"mask": mask})}

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes the modulations of all blocks.

        Args:
            timesteps: (S, 1) or (S, B), timesteps of S steps.
            given: output of `prepare`.

        Returns:
            (S, 1 or B, width).
        """
        embedding = self.t_embedder((1000 - timesteps) / 1000 * self.config.t_scale)
        last = self.all_final_layer[_SIZE]
        assert isinstance(last, _FinalLayer)
        factor = 1 + last.adaLN_modulation(embedding)
        return torch.cat([*(block.modulations(embedding) for block in self._modulated), factor], dim=-1)

    def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], seam: Seam = call_through) -> Tensor:
        """Computes the prediction at x.

        Args:
            x: (B, C, h, w), h and w even.
            time: (1 or B, width), one step of `prepare_times`.
            given: output of `prepare`, with the rows of x.
            seam: called at each site.

        Returns:
            The flow (B, C, h, w).

        Raises:
            ValueError: if h or w is odd.
        """
        height, width = x.shape[-2:]
        if height % PATCH or width % PATCH:
            raise ValueError(f"x has {height}x{width} positions; {OWNER} needs multiples of {PATCH}")
        size, samples = (height // PATCH, width // PATCH), x.shape[0]
        image = self.all_x_embedder[_SIZE](rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=PATCH, q=PATCH))
        *own, factor = time.expand(samples, -1).split(self._widths, dim=-1)
        first = len(self.noise_refiner)
        pads, image, rope = self._refined(image, own[:first], given["frame"], size)
        count = pads.shape[1]
        text_rope = torch.cat((given["text_rope"], after_text(rope[:, :0], count)), dim=1)
        mask = F.pad(given["mask"], (0, count), value=True) if "mask" in given else None
        trunk = partial(self._trunk, seam=seam, size=size)
        site = Site("trunk", "trunk", 0, size, per_token=(3,), per_prefix=(0, 1), probe=self._first_look)
        text = torch.cat((given["text"], pads), dim=1)
        image = seam(site, trunk, image, text, text_rope, torch.cat(own[first:], dim=-1), rope, mask)
        tokens = self.all_final_layer[_SIZE](image, factor)
        return -rearrange(tokens, "b (h w) (p q c) -> b c (h p) (w q)", h=size[0], p=PATCH, q=PATCH)

    @property
    def _modulated(self) -> list[Block]:
        """The blocks that time modulates, in order."""
        return [*self.noise_refiner, *self.layers]

    @property
    def _widths(self) -> list[int]:
        """Widths of the modulations of each block, and of the last layer's."""
        return [*(block.parts * self.config.dim for block in self._modulated), self.config.dim]

    def _refined(
        self, image: Tensor, modulations: list[Tensor], frame: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Refines image tokens (B, N, dim) with those that pad them, which come first; returns both and the table."""
        count, dims = -image.shape[1] % UNIT, self.config.axes_dims[1:]
        table = _grid if torch.compiler.is_compiling() else _known_grid
        grid = table(size, dims, self.config.rope_theta, image.device)
        rope = torch.cat((frame.expand(-1, len(grid), -1, -1), grid.expand(len(image), -1, -1, -1)), dim=2)
        joint = torch.cat((self.x_pad_token.expand(len(image), count, -1), image), dim=1)
        for index, (block, own) in enumerate(zip(self.noise_refiner, modulations, strict=True)):
            site = Site("block", f"noise_refiner.{index}", 0, size, prefix=count)
            joint = block(joint, own, after_text(rope, count), seam=call_through, site=site)
        return joint[:, :count], joint[:, count:], rope

    def _first_look(
        self, image: Tensor, text: Tensor, text_rope: Tensor, modulations: Tensor, rope: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Computes the normed and scaled image tokens (B, N, dim) that the first block's attention reads."""
        first = self.layers[0]
        assert isinstance(first, Block)
        return first.first_look(image, modulations[:, : first.parts * self.config.dim])

    def _trunk(
        self,
        image: Tensor,
        text: Tensor,
        text_rope: Tensor,
        modulations: Tensor,
        rope: Tensor,
        mask: Tensor | None,
        *,
        seam: Seam,
        size: tuple[int, int],
    ) -> Tensor:
        """Runs all blocks on the joint sequence and returns the image tokens (B, N, dim)."""
        blocks = {f"layers.{index}": block for index, block in enumerate(self.layers)}
        own = modulations.chunk(len(blocks), dim=-1)
        return run_blocks(blocks, (text, image), own, (torch.cat((text_rope, rope), dim=1), mask), seam, size)


def _grid(size: tuple[int, int], dims: tuple[int, ...], theta: float, device: torch.device) -> Tensor:
    """Rotary table (h*w, sum(dims)/2, 2) of rows and columns."""
    return rotary_grid((range(size[0]), range(size[1])), dims, device, theta)


_known_grid = lru_cache(maxsize=8)(_grid)
