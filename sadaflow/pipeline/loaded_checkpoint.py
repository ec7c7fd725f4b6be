"""A loaded checkpoint: its networks, where they are kept and how they compute."""

from contextlib import AbstractContextManager
from typing import Any, Self

import torch

from sadaflow.models import Autoencoder
from sadaflow.solvers import read_schedule

from ..device.freed_memory import retain_freed_memory
from ..families import Family
from ..families.options import STEPS
from ..families.pixels import Pixels
from ..loading.embeddings import Embedding
from ..loading.lora.merge import LoraStack
from ..loading.mapped_weights import lay_out
from ..loading.sampling_defaults import Recommended
from ..placement.placement import Residence, require_copyable
from ..sampling.conditioning import Backbone
from .calibrations import NONE, Calibrations
from .compilation import compile_backbone
from .turns import Turns


class LoadedCheckpoint:
    """The networks of a loaded checkpoint, where they are, and what is known of them.

    Attributes:
        name: Name of the folder or file that it was loaded from.
        family: The networks, and how prompts and latents are converted for them.
        dtype: Number format in which the networks compute.
        device: Where they compute.
        scheduler_config: The scheduler config, as the published pipeline uses it.
        schedule: The noise schedule that it describes.
        prediction: What the backbone predicts.
        controlnets: Number of ControlNets beside the backbone.
        recommended: Settings that the checkpoint's authors recommend.
        calibrations: What was measured of the checkpoint; `accelerator="auto"` uses it by itself.
        split_guidance: Whether the two branches of guidance are evaluated one after the other; see `GuidedDenoiser`.

    Args:
        residence: Where the weights are kept between evaluations. None: on the device.
    """

    def __init__(
        self,
        name: str,
        family: Family,
        scheduler_config: dict[str, Any],
        *,
        dtype: torch.dtype,
        device: torch.device,
        controlnets: int = 0,
        recommended: Recommended = Recommended(),  # noqa: B008 - frozen
        residence: Residence | None = None,
        calibrations: Calibrations = NONE,
    ) -> None:
        self.name = name
        self.calibrations = calibrations
        self.recommended = recommended
        self.controlnets = controlnets
        self.family, self.dtype, self.device = family, dtype, device
        self.scheduler_config = scheduler_config
        self.schedule, self.prediction = read_schedule(scheduler_config)
        self.split_guidance = False
        self._loras = LoraStack(family.adaptable)
        self._embeddings: dict[str, Embedding] = {}
        self._residence = residence or Residence(device)
        self._residence.take(family.networks)
        self._frozen, self._compiled, self._turns = False, False, Turns()
        retain_freed_memory(device)

    @property
    def backbone(self) -> Backbone:
        """The network that is evaluated at every step."""
        return self.family.backbone

    @property
    def adapted(self) -> bool:
        """Whether LoRAs are merged."""
        return bool(self._loras)

    @property
    def vae(self) -> Autoencoder | Pixels:
        """The autoencoder, if there is one; in float32 if its config says that it overflows in float16."""
        return self.family.vae

    @property
    def default_guidance(self) -> float:
        """The guidance that the checkpoint recommends, or else that its class was published with."""
        return self.recommended.guidance if self.recommended.guidance is not None else self.family.default_guidance

    @property
    def defaults(self) -> dict[str, Any]:
        """Steps and guidance of a request that leaves them to the checkpoint."""
        return {"steps": self.recommended.steps or STEPS, "guidance": self.default_guidance}

    def compile(self, *, whole: bool = True, freeze: bool = False, **options: Any) -> Self:
        """Compile the backbone and its ControlNets; the first evaluations do the compiling.

        Regions are compiled, which works with every accelerator: residual blocks, and transformer blocks up to their
        attention and after it. A new batch size or token count triggers one recompilation with dynamic shapes. With
        `mode="reduce-overhead"` or `backend="cudagraphs"` the whole network is a CUDA graph for each batch size.

        Args:
            whole: Whether evaluations that no accelerator enters run the whole network compiled in one piece. It takes
                longer to compile.
            freeze: Whether the weights become constants of that piece, for good; LoRAs must be merged before. It pays
                on a CPU, and keeps the weights in memory twice.
            options: Further arguments of `torch.compile`.

        Raises:
            ValueError: If `whole=False` is combined with CUDA graphs or `freeze`, or if weights are offloaded.
        """
        self._refuse_frozen()
        self._residence.refuse_compiling()
        lay_out([self.backbone])
        compile_backbone(self.backbone, whole, freeze, options)
        self._compiled, self._frozen = True, whole and freeze
        return self

    def turn(self) -> AbstractContextManager[None]:
        """Context manager in which no other thread uses the networks, if they cannot be shared."""
        return self._turns.taken(self._residence.offload is not None or self._compiled)

    def _refuse_frozen(self) -> None:
        if self._frozen:
            raise ValueError("the weights are part of what compile(freeze=True) compiled: load the pipeline anew")

    def __getstate__(self) -> dict[str, Any]:
        """The state for `pickle` and `copy.deepcopy`; raises ValueError if `require_copyable` does."""
        require_copyable(self._residence, self._compiled)
        return vars(self).copy()
