"""DiT (Peebles & Xie 2023, arXiv 2212.09748): class labels, a transformer on latents, a KL autoencoder."""

from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import torch
from torch import nn

from sadaflow.models import Autoencoder, AutoencoderConfig, DiT, DiTConfig

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from .base import Prompted, autoencoder_config, build_autoencoder
from .exported import Exported
from .labels import Labels
from .latent_transformer import LatentTransformer
from .request import Request


class ClassConditional(LatentTransformer):
    """The components of a DiTPipeline checkpoint.

    The negative branch of guidance has the null label. As in the published pipeline, guidance acts on all channels of
    the latents; the authors' own sampler guides the first three of four.

    Args:
        backbone: The network.
        vae: The autoencoder.
        labels: Names of the classes.
        dtype: Dtype in which the networks compute.
    """

    components: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "transformer": ("DiTTransformer2DModel", "Transformer2DModel"),
        "vae": "AutoencoderKL",
    }
    options: ClassVar[frozenset[str]] = frozenset({"class_labels"})
    default_guidance: ClassVar[float] = 4.0
    prompted: ClassVar[bool] = False

    def __init__(self, backbone: DiT, vae: Autoencoder, labels: Labels, dtype: torch.dtype) -> None:
        self.backbone = backbone
        self.vae = vae
        self.labels = labels
        self.dtype = dtype

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        transformer = checkpoint.read(DiTConfig.from_dict, "transformer", "config.json")
        vae = autoencoder_config(checkpoint)
        with naming(checkpoint.root):
            _check_channels(transformer, vae)
        with naming(checkpoint.path("", "model_index.json")):
            names = checkpoint.json("model_index.json").get("id2label")
            labels = Labels.read(transformer.num_embeds_ada_norm, names)
        return lambda: cls(
            checkpoint.network("transformer", lambda: DiT(transformer)),
            build_autoencoder(checkpoint, vae),
            labels,
            checkpoint.dtype,
        )

    @property
    def patch(self) -> int:
        return self.backbone.config.patch_size

    @property
    def default_size(self) -> tuple[int, int]:
        side = self.backbone.config.sample_size * self.vae.config.downscale
        return side, side

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        return {"transformer": self.backbone}

    def exported(self) -> Exported:
        """What an exported folder says beside the networks."""
        names = dict(self.labels.published)
        return Exported("DiTPipeline", {}, {"id2label": names} if names else {})

    def condition(self, request: Request) -> Prompted:
        labels = self.labels.of(request)
        null = torch.full_like(labels, self.backbone.null_label)
        return Prompted({"class_labels": labels}, {"class_labels": null} if request.guided else None)


def _check_channels(transformer: DiTConfig, vae: AutoencoderConfig) -> None:
    """Raise ValueError if the transformer does not read the latents of the autoencoder."""
    if transformer.in_channels != vae.latent_channels:
        raise ValueError(
            f"the vae's latents have {vae.latent_channels} channels, the transformer's in_channels is "
            f"{transformer.in_channels} (transformer/config.json, vae/config.json)"
        )
