"""DDPM and DDIM pipelines (Ho et al. 2020, Song et al. 2021): a U-Net on pixels, with or without class labels."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sadaflow.models import UNet, unet_2d_config
from sadaflow.models.attention import current_name
from sadaflow.models.unet.config_2d import unet_2d_dict

from ..guidance import guidance_text
from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from ..sampling.finite_check import require_finite_output
from .base import Prompted
from .exported import Exported
from .labels import Labels
from .pixels import Pixels
from .prompt_encoder import ClipText, T5Text
from .request import Request


class Unconditional:
    """The components of a DDPMPipeline checkpoint.

    It reads no prompt, and has neither a negative branch nor an autoencoder.

    Args:
        backbone: The network.
        labels: Names of the classes. None: the network has no classes.
        dtype: Dtype in which the networks compute.
    """

    components: ClassVar[dict[str, str | tuple[str, ...]]] = {"unet": "UNet2DModel"}
    default_guidance: ClassVar[float] = 1.0
    prompted: ClassVar[bool] = False
    pipeline: ClassVar[str] = "DDPMPipeline"
    """The pipeline class in Diffusers."""
    patch: ClassVar[int] = 1

    def __init__(self, backbone: UNet, labels: Labels | None, dtype: torch.dtype) -> None:
        self.backbone = backbone
        self.vae = Pixels(backbone.config.in_channels)
        self.labels = labels
        self.dtype = dtype

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        config = checkpoint.read(unet_2d_config, "unet", "config.json")
        with naming(checkpoint.path("unet", "config.json")):
            if config.in_channels not in (1, 3) or config.out_channels != config.in_channels:
                raise ValueError(
                    f"in_channels={config.in_channels} and out_channels={config.out_channels} are not supported: "
                    "pictures have 1 or 3 channels, and the prediction as many (a learned variance is not supported)"
                )
            names = checkpoint.json("model_index.json").get("id2label")
            labels = None if config.classes is None else Labels.read(config.classes, names)
        return lambda: cls(checkpoint.network("unet", lambda: UNet(config), current_name), labels, checkpoint.dtype)

    @classmethod
    def scheduler_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The scheduler config unchanged, as DDPMPipeline uses it."""
        return dict(config)

    @property
    def options(self) -> frozenset[str]:
        return frozenset() if self.labels is None else frozenset({"class_labels"})

    @property
    def latent_channels(self) -> int:
        return self.backbone.config.in_channels

    @property
    def default_size(self) -> tuple[int, int]:
        size = self.backbone.config.sample_size or 32
        return (size[0], size[-1]) if isinstance(size, tuple) else (size, size)

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        return {"unet": self.backbone}

    @property
    def prompt_encoders(self) -> Mapping[str, ClipText | T5Text]:
        return {}

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"unet": self.backbone}

    def exported(self) -> Exported:
        """What an exported folder says beside the networks."""
        names = {} if self.labels is None else dict(self.labels.published)
        fields = {"id2label": names} if names else {}
        return Exported(self.pipeline, {}, fields, {"unet": unet_2d_dict(self.backbone.config)})

    def condition(self, request: Request) -> Prompted:
        if request.known_guidance != self.default_guidance:
            raise ValueError(
                f"guidance={guidance_text(request.known_guidance)} has no effect on a {type(self).__name__} "
                "checkpoint, which has no negative branch; leave it out"
            )
        return Prompted({} if self.labels is None else {"class_labels": self.labels.of(request)}, None)

    def decode(self, latents: Tensor) -> Tensor:
        require_finite_output("unet", self.dtype, latents)
        images = (latents.float() / 2 + 0.5).clamp(0, 1)
        return images.expand(-1, 3, -1, -1)


class UnconditionalDDIM(Unconditional):
    """The components of a DDIMPipeline checkpoint."""

    pipeline: ClassVar[str] = "DDIMPipeline"

    @classmethod
    def scheduler_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The scheduler config as DDIMPipeline uses it: of any class, it is read as that of DDIMScheduler."""
        return {**config, "_class_name": "DDIMScheduler"}
