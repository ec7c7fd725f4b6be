"""The state that a call with a picture begins from, and what its network reads beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from sadaflow.models import Autoencoder
from sadaflow.solvers import Adaptive, Solver

from ..families import Family, FirstFrameFamily, Flux, Request
from ..families.encoding import encode_images
from ..families.unet import FIRST_FRAME, MASK, PICTURE
from ..files.images import to_pil
from ..sampling.blending import BlendedDenoiser, blend
from ..sampling.denoiser import BranchDenoise
from ..sampling.results import Sampled, Stats
from .first_frame import after_first, beside_video, square
from .grid_part import on_its_part, starts_by_strength
from .inputs import latent_shape
from .output import Output, decode_output
from .pictures import Pictures


@dataclass(frozen=True)
class Beginning:
    """What a call with a picture starts from.

    Attributes:
        x: States (B, C, h, w) at the first point of the grid.
        kept: Latents of the picture (1 or B, C, h, w), of the first frame (1 or B, C, 1, h, w); None if the call has no
            use for them.
        mask: Which latent positions are repainted, bool (1 or B, 1, h, w), or which latent frames are sampled, bool
            (1, 1, T, 1, 1), if the others are kept by blending x0.
        beside: What the network reads beside the latents, (1 or B, further channels, h, w); None if nothing.
        clean: Whether the grid ends at clean data.
        given: Further arguments of the network, (1 or B, ...) each.
    """

    x: Tensor
    kept: Tensor | None = None
    mask: Tensor | None = None
    beside: Tensor | None = None
    clean: bool = True
    given: Mapping[str, Tensor] = field(default_factory=dict)

    def blended(self, denoise: BranchDenoise) -> BranchDenoise:
        """The denoiser that keeps the picture outside the mask."""
        if self.mask is None or self.kept is None:
            return denoise
        return BlendedDenoiser(denoise, self.mask, self.kept)

    def ended(self, x: Tensor) -> Tensor:
        """The final states, which at clean data are the picture's outside the mask, whatever was estimated."""
        if self.mask is None or self.kept is None or not self.clean:
            return x
        return blend(x, self.mask, self.kept)


def begin(pictures: Pictures, request: Request, family: Family, whole: Solver | Adaptive, noise: Tensor) -> Beginning:
    """The state that a request with a picture begins from, and what its network reads beside it.

    x is alpha x0 + sigma z at the first point of the grid. At strength 1 with a mask nothing of the picture is left in
    what is repainted: there x is the start noise of a call without a picture.

    Args:
        pictures: Its pictures.
        request: The complete request.
        family: The networks.
        whole: The solver on its whole grid, of which `on_its_part` takes a part.
        noise: The start noise (B, C, h, w), on the device of the networks.
    """
    assert not isinstance(whole, Adaptive) and isinstance(family.vae, Autoencoder)
    grid, start_scale = on_its_part(whole, request, family).grid, whole.grid.start_scale
    pictures, vae = pictures.to(noise.device), family.vae
    draws = _Draws(request, latent_shape(family, *request.size))
    reads = getattr(family, "reads", None)
    if reads == PICTURE:
        return Beginning(start_scale * noise, beside=_edited(pictures, vae))
    if reads == FIRST_FRAME:
        return _continued(pictures, family, start_scale * noise)
    mask = pictures.repainted_latents(vae.config.downscale)
    # At pure noise nothing of the picture is in x anyway.
    whole_strength = request.effective_strength == 1 and starts_by_strength(request)
    anew = mask is not None and whole_strength and not grid.points[0].pure_noise
    kept = None if anew and reads == MASK else _encoded(pictures, vae, draws)
    z = draws.after_posterior(noise, own=request.noise is not None)
    if kept is None:
        x = start_scale * z
    elif request.denoising_start is not None:
        x = kept.expand_as(z)
    else:
        x = grid.points[0].alpha * kept + grid.points[0].sigma * z
        x = blend(start_scale * z, mask, x) if anew and mask is not None else x
    if reads == MASK:
        return Beginning(x, beside=_beside(pictures, vae, draws, isinstance(family, Flux)))
    return Beginning(x, kept, mask, clean=grid.points[-1].sigma == 0)


def _edited(pictures: Pictures, vae: Autoencoder) -> Tensor:
    """The unscaled latents of the pictures to edit, (1 or B, C, h, w), as published for InstructPix2Pix."""
    if pictures.images is None:
        raise ValueError("this checkpoint reads a picture: image= must be the picture, not its latents")
    dtype = next(vae.parameters()).dtype
    return torch.cat([vae.encode(image.to(dtype))[0] for image in pictures.images.split(1)]).float()


def _continued(pictures: Pictures, family: Family, x: Tensor) -> Beginning:
    """The beginning of a video whose first frame is the picture, from states x (B, C, T, h, w) of pure noise."""
    assert isinstance(family, FirstFrameFamily) and isinstance(family.vae, Autoencoder) and pictures.images is not None
    if family.replaces_first:
        first = encode_images(family.vae, pictures.images[:, :, None])
        return Beginning(x, kept=first, mask=after_first(x), given={"first": first})
    side, given = family.seen_side, dict[str, Tensor]()
    if side is not None:
        given |= family.see(torch.stack([square(original, side) for original in pictures.originals]))
    beside = beside_video(pictures.images, family.vae, x.shape, family.frames_per_latent)
    return Beginning(x, beside=beside, given=given)


def _encoded(pictures: Pictures, vae: Autoencoder, draws: "_Draws") -> Tensor:
    """Latents of the pictures, (1 or B, C, h, w)."""
    if pictures.latents is not None:
        return pictures.latents
    assert pictures.images is not None
    return encode_images(vae, pictures.images, draws.posterior())


def _beside(pictures: Pictures, vae: Autoencoder, draws: "_Draws", every_pixel: bool) -> Tensor:
    """The mask and the latents of the picture without what it covers, (1 or B, channels, h, w).

    What is covered is mid-grey, 0 in [-1, 1], at the pictures' resolution. Networks of Stable Diffusion read the mask
    at the resolution of the latents, before them; those of Flux.1 Fill, with `every_pixel`, read all pixels of a
    position as channels, after them. Both as published.
    """
    if pictures.images is None:
        raise ValueError("this checkpoint reads the masked picture: image= must be the picture, not its latents")
    mask, small = pictures.repainted, pictures.repainted_latents(vae.config.downscale)
    assert mask is not None and small is not None
    latents = encode_images(vae, pictures.images * (~mask), draws.posterior())
    if every_pixel:
        small = pixel_unshuffle(mask.to(latents), vae.config.downscale)
    parts = [latents, small] if every_pixel else [small.to(latents), latents]
    rows = max(map(len, parts))
    return torch.cat([part.expand(rows, -1, -1, -1) for part in parts], dim=1)


class _Draws:
    """Draws the noise of each sample from a generator of its own, one tensor after the other.

    With the mode of the posterior, the start noise is the first draw, and so that of a call without a picture.

    Args:
        request: The request, with its seeds.
        shape: Shape of the latents of a sample, (C, h, w).
    """

    def __init__(self, request: Request, shape: tuple[int, ...]) -> None:
        self._shape, self._sampled = shape, request.posterior == "sample"
        self._generators: Sequence[torch.Generator] = [torch.Generator().manual_seed(seed) for seed in request.seeds]

    def normal(self) -> Tensor:
        """Unit-normal noise (B, C, h, w)."""
        return torch.cat([torch.randn((1, *self._shape), generator=generator) for generator in self._generators])

    def after_posterior(self, noise: Tensor, *, own: bool) -> Tensor:
        """The start noise, drawn after the posterior's; `noise` if nothing was drawn, or if it is the call's own."""
        return noise if own or not self._sampled else self.normal().to(noise)

    def posterior(self) -> Tensor | None:
        """Noise for the posterior; None if its mode is taken."""
        return self.normal() if self._sampled else None


def unchanged(pictures: Pictures, request: Request, family: Family, output: str, device: torch.device) -> Output:
    """What a call of strength 0 returns: the picture itself, and its latents."""
    assert isinstance(family.vae, Autoencoder)
    pictures, samples = pictures.to(device), len(request.prompts)
    kept = _encoded(pictures, family.vae, _Draws(request, latent_shape(family, *request.size)))
    stats = Stats([0.0] * samples, [[]] * samples, 0.0, 0.0, 0.0)
    sampled = Sampled(kept.expand(samples, -1, -1, -1), stats)
    if pictures.images is None or output == "latent":
        return decode_output(family, sampled, output, None)
    whole = torch.stack([crop.picture for crop in pictures.crops]) if pictures.crops else pictures.images / 2 + 0.5
    images = whole.expand(samples, -1, -1, -1)
    return Output(to_pil(images) if output == "pil" else images, sampled.x, stats)
