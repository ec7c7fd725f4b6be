"""What differs between checkpoints: components, conditioning, latent layout, decoding."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sadaflow.models import Autoencoder, AutoencoderConfig

from ..loading.checkpoint import Checkpoint
from ..sampling.conditioning import Backbone
from ..sampling.finite_check import require_finite_output
from .request import Request

Conditioning = Mapping[str, Tensor]


@dataclass(frozen=True)
class Prompted:
    """Keyword arguments of the backbone, rows as samples: for the conditional branch, and the negative one if any.

    `guidance` is the weight of the former against the latter; None is the request's.
    """

    conditional: Conditioning
    negative: Conditioning | None
    guidance: float | None = None

    def to(self, device: torch.device) -> "Prompted":
        """With all tensors on `device`."""
        conditional, negative = (
            None if branch is None else {name: tensor.to(device) for name, tensor in branch.items()}
            for branch in (self.conditional, self.negative)
        )
        assert conditional is not None
        return replace(self, conditional=conditional, negative=negative)

    def both(self, **rows: Tensor) -> "Prompted":
        """With further arguments that both branches share."""
        negative = None if self.negative is None else {**self.negative, **rows}
        return replace(self, conditional={**self.conditional, **rows}, negative=negative)


class Family(Protocol):
    """The parts of one class of checkpoint.

    Attributes:
        components: The classes that its model_index.json must name, by component.
        options: Names of the arguments of `FAMILY_OPTIONS` that it honours.
        default_guidance: The guidance that the class was published with.
        patch: Latent positions along one side of a token of the backbone.
    """

    components: ClassVar[dict[str, str]]
    default_guidance: ClassVar[float]
    patch: ClassVar[int]

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> "Callable[[], Family]":
        """Reads and checks all configs and tokenizers of a checkpoint, without its weight files.

        Returns:
            A function that builds the networks and matches them with the weight files; `checkpoint.fill` reads these.
        """
        ...

    @classmethod
    def scheduler_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The scheduler config as the kind's published pipeline uses it."""
        ...

    @property
    def options(self) -> frozenset[str]: ...

    @property
    def backbone(self) -> Backbone: ...

    @property
    def vae(self) -> Autoencoder: ...

    @property
    def latent_channels(self) -> int: ...

    @property
    def default_size(self) -> tuple[int, int]:
        """Height and width in pixels that the checkpoint was trained at."""
        ...

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        """The networks that a LoRA may change, by the Hub's names of their components."""
        ...

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """All networks, by name: what of the checkpoint takes memory."""
        ...

    def condition(self, request: Request) -> Prompted:
        """Encode the prompts of a request whose size and guidance are filled in."""
        ...

    def decode(self, latents: Tensor) -> Any:
        """Images (B, 3, H, W) in [0, 1], float32, of latents (B, C, h, w) in the backbone's scaling."""
        ...


@runtime_checkable
class AudioFamily(Protocol):
    """What kinds of checkpoint that make sound offer beside `Family`; they decode latents to log-mel spectrograms."""

    sample_rate: int
    frame_seconds: float

    def frames(self, seconds: float) -> int:
        """Spectrogram frames (the height) that hold `seconds`; ValueError for a length that cannot be."""
        ...

    def waveform(self, spectrograms: Tensor) -> Tensor:
        """Audio (B, samples), float32 on the CPU, of log-mel spectrograms (B, 1, frames, mels)."""
        ...


def autoencoder_config(checkpoint: Checkpoint, *, statistics: bool = False) -> AutoencoderConfig:
    """Reads the config of a checkpoint's KL autoencoder.

    Raises ValueError if the config has `latents_mean` and `latents_std` and the kind of checkpoint does not use them
    (`statistics` False): Diffusers ignores them there, so it is unknown what its latents are.
    """
    config = checkpoint.read(AutoencoderConfig.from_dict, "vae", "config.json")
    if config.latents_mean is not None and not statistics:
        raise ValueError(
            f"{checkpoint.root}/vae/config.json: latents_mean and latents_std are used by Stable Diffusion XL "
            "checkpoints only; set both to null if the backbone's latents are not normalised by them"
        )
    return config


def build_autoencoder(checkpoint: Checkpoint, config: AutoencoderConfig) -> Autoencoder:
    """Builds the KL autoencoder of a checkpoint, in float32 if it would overflow in float16."""
    held = replace(checkpoint, dtype=config.safe_dtype(checkpoint.dtype))
    return held.network("vae", lambda: Autoencoder(config), Autoencoder.rename)


def decode_latents(vae: Autoencoder, latents: Tensor) -> Tensor:
    """The output of the decoder, float32, for scaled latents (B, C, h, w), which are decoded one by one.

    Raises FloatingPointError, naming the autoencoder, its dtype and the samples, where it is not finite.
    """
    config = vae.config
    if config.latents_mean is None or config.latents_std is None:
        unscaled = latents / config.scaling_factor + (config.shift_factor or 0.0)
    else:
        mean, std = (latents.new_tensor(row).view(1, -1, 1, 1) for row in (config.latents_mean, config.latents_std))
        unscaled = latents * std / config.scaling_factor + mean
    dtype = next(vae.parameters()).dtype
    decoded = torch.cat([vae.decode(one.to(dtype)) for one in unscaled.split(1)]).float()
    require_finite_output("vae", dtype, decoded)
    return decoded


def decode_images(vae: Autoencoder, latents: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] of latents (B, C, h, w); see `decode_latents`."""
    return (decode_latents(vae, latents) / 2 + 0.5).clamp(0, 1)
