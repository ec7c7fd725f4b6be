"""Pictures of intermediate x0: by a linear map, or by a tiny decoder that is loaded for the purpose."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sadaflow.models import TinyAutoencoder

from ..families import AudioFamily, VideoFamily
from ..families.argument import cannot_be_used
from ..files.images import to_pil
from ..loading.hub.locate import is_file_name, locate_checkpoint, locate_file
from ..loading.hub.options import HubOptions
from ..loading.mapped_weights import reads_mapped_weights
from ..loading.single_file.tiny import load_tiny
from ..loading.strict import Loader
from ..sampling.finite_check import require_finite_output
from .diffusers_names import refuses_unknown
from .linear_preview import fit_linear_preview
from .sampler import Sampler

Preview = Callable[[Tensor], Tensor]
"""Maps latents (B, C, h, w) in the backbone's scaling to pictures (B, 3, H, W) in [0, 1], float32."""


@dataclass(frozen=True, eq=False)
class TinyPreview:
    """Decodes latents by a tiny autoencoder.

    Attributes:
        network: The autoencoder.
    """

    network: TinyAutoencoder

    def __call__(self, latents: Tensor) -> Tensor:
        """Maps latents (B, C, h, w) to pictures (B, 3, H, W) in [0, 1], float32."""
        config, weight = self.network.config, next(self.network.decoder.parameters())
        unscaled = (latents / config.scaling_factor + config.shift_factor).to(weight)
        decoded = self.network.decode(unscaled).float()
        require_finite_output("preview decoder", weight.dtype, decoded)
        return (decoded / 2 + 0.5).clamp(0, 1)


class Previewing(Sampler):
    """A loaded checkpoint that shows intermediate x0."""

    _preview: Preview | None = None

    @reads_mapped_weights
    @torch.no_grad()
    def preview(self, x0: Tensor, output: str = "tensor") -> Any:
        """Show latents cheaply, such as `Step.x0` in an observer.

        Without a preview decoder, each latent position becomes a pixel by a linear map. The map is fitted once, by
        decoding eight small latents with the checkpoint's decoder, and is always the same for the same weights.

        Args:
            x0: Latents (B, C, h, w), of videos (B, C, T, h, w), in the backbone's scaling.
            output: "tensor", or "pil" for a list of PIL images; of videos, for a list of frames for each.

        Returns:
            Pictures (B, 3, h, w), or (B, 3, H, W) with a preview decoder, in [0, 1], float32. Of videos, a picture for
            each latent frame: (B, T, 3, h, w).

        Raises:
            ValueError: If `x0` has another number of dimensions or channels, or if the checkpoint makes sound.
        """
        self._check_latents(x0, output)
        with self._turns.taken(self._residence.offload is not None or self._compiled):
            if self._preview is None:
                self._preview = fit_linear_preview(self.family, self.device)
            shown = self._preview(x0)
        return self._shown(shown, output)

    @reads_mapped_weights
    @torch.no_grad()
    def decode(self, latents: Tensor, output: str = "tensor") -> Any:
        """Decode latents by the checkpoint's own decoder, one at a time.

        Args:
            latents: (B, C, h, w), of videos (B, C, T, h, w), in the backbone's scaling, such as `out.latents` or the
                `x0` of a trace.
            output: "tensor", or "pil" for a list of PIL images; of videos, for a list of frames for each.

        Returns:
            Pictures (B, 3, H, W), videos (B, frames, 3, H, W), in [0, 1], float32, on the CPU.

        Raises:
            ValueError: If the latents have another number of dimensions or channels, or if the checkpoint makes sound.
        """
        self._check_latents(latents, output)
        with self._turns.taken(self._residence.offload is not None or self._compiled):
            decoded = [self.family.decode(each.to(self.device)).float().cpu() for each in latents.split(1)]
        return self._shown(torch.cat(decoded), output)

    def _shown(self, pictures: Tensor, output: str) -> Any:
        if output == "tensor":
            return pictures
        return [to_pil(frames) for frames in pictures] if isinstance(self.family, VideoFamily) else to_pil(pictures)

    def _check_latents(self, latents: Tensor, output: str) -> None:
        if output not in ("tensor", "pil"):
            raise ValueError(f'unknown output {output!r}; known: "tensor", "pil"')
        if isinstance(self.family, AudioFamily):
            raise ValueError("latents are decoded to pictures here, and this checkpoint makes sound")
        if not isinstance(latents, Tensor):
            raise ValueError(cannot_be_used("x0", latents, "a tensor of latents"))
        channels = self.family.latent_channels
        sides = "T, h, w" if isinstance(self.family, VideoFamily) else "h, w"
        if latents.dim() != len(sides.split()) + 2 or latents.shape[1] != channels:
            raise ValueError(f"x0 has shape {tuple(latents.shape)}, expected (B, {channels}, {sides})")

    @refuses_unknown
    def load_preview_decoder(
        self,
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> None:
        """Load a tiny autoencoder (madebyollin/taesd, taesdxl, taesd3, taef1) that `preview` decodes with.

        It stays on the pipeline's device, in the pipeline's dtype, also with `offload=` and `quantize=`.

        Args:
            model: A folder, a Hub id, or a single file, such as taesd_decoder.safetensors.
            revision: Branch, tag or commit of `model`; the further arguments are those of `from_pretrained`.

        Raises:
            ValueError: If it is another class of network, if its weights do not fit, or if its latents have another
                number of channels or another size than those of the checkpoint.
            FileNotFoundError, ConnectionError, PermissionError, OSError: If a file cannot be fetched.
        """
        if isinstance(self.family, VideoFamily):
            raise ValueError("preview decoders are for pictures, and this checkpoint makes video: leave it out")
        hub = HubOptions(revision, None, cache_dir, token, local_files_only)
        loader = Loader(self.dtype, self.device)
        source = locate_file(model, hub) if is_file_name(model) else locate_checkpoint(model, hub, marker="config.json")
        network = load_tiny(source, loader)
        vae, config = self.family.vae.config, network.config
        for what, found, expected in (
            ("channels", config.latent_channels, self.family.latent_channels),
            ("pixels per position along a side", config.downscale, vae.downscale),
        ):
            if found != expected:
                raise ValueError(f"{source}: its latents have {found} {what}, the checkpoint's {expected}")
        loader.fill()
        self._preview = TinyPreview(network)
