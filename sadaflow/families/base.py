"""Interface of the families of checkpoints: components, conditioning, latent layout and decoding."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from sadaflow.models import Autoencoder, AutoencoderConfig

from ..loading.checkpoint import Checkpoint
from ..loading.strict import Loader
from ..loading.vae_source import VaeSource
from ..sampling.conditioning import Backbone
from ..sampling.finite_check import require_finite_output
from .guidance_options import Guidance
from .pixels import Pixels
from .prompt_encoder import ClipText, T5Text
from .request import Request

Conditioning = Mapping[str, Tensor]
_DEFAULT_SIDE = 128  # latent positions, if the autoencoder's config has no sample_size


@dataclass(frozen=True)
class Prompted:
    """Encoded prompts: keyword arguments of the backbone, with one row per sample.

    Attributes:
        conditional: Arguments of the conditional branch.
        negative: Arguments of the negative branch; None if there is none.
        guidance: Guidance between the branches; None is that of the request.
        picture: Arguments of the branch that has a picture to edit, and the negative prompt; None if there is none.
        late_guidance: A timestep, and the guidance strength at earlier timesteps; None if it does not change.
        keeps_length: Latent positions along one side of the tokens at which the guided prediction keeps the length of
            the conditional one; None if it does not.
        then: Arguments that take the place of those of the conditional branch in the course of the steps; None if the
            prompt stays what it is.
    """

    conditional: Conditioning
    negative: Conditioning | None
    guidance: Guidance | None = None
    picture: Conditioning | None = None
    late_guidance: tuple[float, float] | None = None
    keeps_length: int | None = None
    then: Conditioning | None = None

    def to(self, device: torch.device) -> "Prompted":
        """A copy with all tensors on `device`."""
        conditional, negative, then = (
            None if branch is None else {name: tensor.to(device) for name, tensor in branch.items()}
            for branch in (self.conditional, self.negative, self.then)
        )
        assert conditional is not None
        return replace(self, conditional=conditional, negative=negative, then=then)

    def beside(self, rows: Tensor, *, edited: bool) -> "Prompted":
        """A copy whose network reads `rows` (B, channels, h, w) beside the latents, in both branches.

        Args:
            rows: What is read; of videos (B, channels, T, h, w).
            edited: Whether it is a picture to edit. The negative branch is then without it, and a third branch has it
                without the prompt (Brooks et al. 2023, arXiv 2211.09800).
        """
        seen = self.both(beside=rows)
        if not edited or seen.negative is None:
            return seen
        return replace(seen.with_negative(beside=torch.zeros_like(rows)), picture=seen.negative)

    def both(self, **rows: Tensor) -> "Prompted":
        """A copy with further arguments in both branches."""
        negative = None if self.negative is None else {**self.negative, **rows}
        return replace(self, conditional={**self.conditional, **rows}, negative=negative)

    def with_negative(self, **rows: Tensor) -> "Prompted":
        """A copy with other arguments in the negative branch, which must exist."""
        assert self.negative is not None
        return replace(self, negative={**self.negative, **rows})


class Family(Protocol):
    """The networks of a checkpoint of one architecture, and how prompts and latents are converted for them.

    Attributes:
        components: The class that model_index.json must name, or one of several, by component.
        default_guidance: Guidance strength that the architecture was published with.
    """

    components: ClassVar[dict[str, str | tuple[str, ...]]]
    default_guidance: ClassVar[float]

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> "Callable[[], Family]":
        """Read and check all configs and tokenizers of a checkpoint, without its weight files.

        Returns:
            A function that builds the networks and matches them with the weight files; `checkpoint.fill` reads these.

        Raises:
            ValueError: If a config or a tokenizer is not supported, or if components do not fit each other.
            FileNotFoundError: If a file is missing.
        """
        ...

    @classmethod
    def scheduler_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The scheduler config as the published pipeline of the family uses it."""
        ...

    @property
    def patch(self) -> int:
        """Latent positions along one side of a token of the backbone."""
        ...

    @property
    def options(self) -> frozenset[str]:
        """Names of the fields of `Options` that the checkpoint uses."""
        ...

    @property
    def backbone(self) -> Backbone:
        """The denoising network, with ControlNets if there are any."""
        ...

    @property
    def vae(self) -> Autoencoder | Pixels:
        """The autoencoder, or what stands in its place for networks that sample pixels."""
        ...

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        ...

    @property
    def default_size(self) -> tuple[int, int]:
        """Height and width in pixels that the checkpoint was trained at."""
        ...

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        """Networks that a LoRA may modify, by component name."""
        ...

    @property
    def prompt_encoders(self) -> Mapping[str, ClipText | T5Text]:
        """Text encoders that textual inversions may add words to, by component name; a family may lack it."""
        ...

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """All networks by name."""
        ...

    def condition(self, request: Request) -> Prompted:
        """Encode the prompts of a request whose size and guidance are filled in."""
        ...

    def decode(self, latents: Tensor) -> Any:
        """Decode latents (B, C, h, w) in the backbone's scaling to images (B, 3, H, W) in [0, 1], float32."""
        ...


def reads_prompts(family: object) -> bool:
    """Whether a family, or its class, reads prompts; others are sampled by class label, or from noise alone."""
    return bool(getattr(family, "prompted", True))


def autoencoder_config(checkpoint: Checkpoint, *, statistics: bool = False) -> AutoencoderConfig:
    """Read the config of a checkpoint's KL autoencoder.

    Args:
        checkpoint: The checkpoint.
        statistics: Whether its family normalises latents by `latents_mean` and `latents_std` of the config.

    Raises:
        ValueError: If the config is not supported; or if it has such statistics and the family does not use them.
            Diffusers ignores them there, so the normalisation of the latents is unknown.
    """
    config = checkpoint.read(AutoencoderConfig.from_dict, "vae", "config.json")
    if config.latents_mean is not None and not statistics:
        raise ValueError(
            f"{checkpoint.path('vae', 'config.json')}: latents_mean and latents_std are used by Stable Diffusion XL "
            "checkpoints only; set both to null if the backbone's latents are not normalised by them"
        )
    return config


def build_autoencoder(checkpoint: Checkpoint, config: AutoencoderConfig) -> Autoencoder:
    """Build the KL autoencoder of a checkpoint; it is held in float32 if it would overflow in float16."""
    held = replace(checkpoint, dtype=config.safe_dtype(checkpoint.dtype))
    return held.network("vae", lambda: Autoencoder(config), Autoencoder.rename)


def trained_size(config: AutoencoderConfig, patch: int) -> tuple[int, int]:
    """Height and width in pixels from an autoencoder's config; ValueError if they are not whole tokens."""
    size, token = config.sample_size or _DEFAULT_SIDE * config.downscale, config.downscale * patch
    height, width = (size[0], size[-1]) if isinstance(size, tuple) else (size, size)
    if height % token or width % token:
        raise ValueError(f"the vae's sample_size is {config.sample_size}, not a multiple of {token}, a token's pixels")
    return height, width


def replace_vae(family: Family, source: VaeSource, loader: Loader) -> None:
    """Use another autoencoder in a family whose weights have not been read; those of the first never are.

    Args:
        family: The family.
        source: The autoencoder. A single file takes the scaling of its latents from the family's.
        loader: Reads the weights.

    Raises:
        ValueError: If its latents have another shape than those of the family's.
    """
    old = family.vae
    if isinstance(old, Pixels):
        raise ValueError(f"vae={source.path}: this checkpoint samples pixels, and has no autoencoder")
    fields = ("scaling_factor", "shift_factor", "force_upcast", "sample_size", "latents_mean", "latents_std")
    new = source.build(type(old), {field: getattr(old.config, field) for field in fields}, loader)
    for name, found, expected in (
        ("channels", new.config.latent_channels, old.config.latent_channels),
        ("pixels per position along a side", new.config.downscale, old.config.downscale),
    ):
        if found != expected:
            raise ValueError(f"vae={source.path}: its latents have {found} {name}, the checkpoint's {expected}")
    loader.pending[:] = [matched for matched in loader.pending if matched.network is not old]
    family.vae = new  # type: ignore[misc]  # a property in the protocol, an attribute in the families


def decode_latents(vae: Autoencoder, latents: Tensor) -> Tensor:
    """Decode latents, one sample at a time.

    Args:
        vae: The autoencoder.
        latents: Latents (B, C, h, w), or (B, C, t, h, w), in the backbone's scaling.

    Returns:
        Output of the decoder (B, channels, H, W), or (B, channels, T, H, W), float32.

    Raises:
        FloatingPointError: If it holds NaN or infinity; the message names the dtype and the samples.
    """
    dtype = next(vae.parameters()).dtype
    decoded = torch.cat([vae.decode(sample.to(dtype)) for sample in vae.config.unscaled(latents).split(1)]).float()
    require_finite_output("vae", dtype, decoded)
    return decoded


def decode_images(vae: Autoencoder, latents: Tensor) -> Tensor:
    """Decode latents (B, C, h, w) to images (B, 3, H, W) in [0, 1]; see `decode_latents`."""
    return (decode_latents(vae, latents) / 2 + 0.5).clamp(0, 1)
