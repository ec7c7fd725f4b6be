"""Trains a small DiT on the rectified flow of labelled pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.attention import sdpa_kernel

from sadaflow.models import DiT, DiTConfig

from .data_parallel import Team
from .flow import ATTENTION, compiled, noised
from .loop import averaged, train_loop
from .record import LoopSettings
from .state import Ema, Log
from .vae import to_signed

TRANSFORMER_CONFIG: dict[str, Any] = {
    "_class_name": "DiTTransformer2DModel",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_head_dim": 32,
    "dropout": 0.0,
    "in_channels": 3,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "norm_type": "ada_norm_zero",
    "num_attention_heads": 4,
    "num_embeds_ada_norm": 12,
    "num_layers": 4,
    "out_channels": 3,
    "patch_size": 4,
    "sample_size": 32,
    "upcast_attention": False,
}

GUIDANCE = 2.0
"""Guidance strength that the checkpoint recommends."""
STEPS = 50
"""Steps of Euler's method that it recommends."""
SHIFT = 1.0
"""Shift of its noise levels."""


@dataclass(frozen=True)
class LabelledSettings(LoopSettings):
    """Settings of the training of the transformer.

    Attributes:
        label_dropout: Fraction of labels that are replaced by the null label.
        level_shift: Mean of the logits of the noise levels; see `noise_levels`.
        compile: Whether the network is compiled.
    """

    minutes: float = 58.0
    samples: int = 1_000_000
    batch: int = 16
    learning_rate: float = 1.5e-3
    warm_up_steps: int = 100
    cooldown: float = 0.5
    ema_decay: float = 0.998
    label_dropout: float = 0.1
    level_shift: float = 0.8
    sheet_minutes: float = 15.0
    compile: bool = True


@dataclass(frozen=True)
class LabelledData:
    """The training data of the transformer.

    Attributes:
        pictures: Pictures (N, 3, H, W) in bytes.
        labels: Labels (N,).
        scale: Factor between pictures in [-1, 1] and what the network sees.
    """

    pictures: Tensor
    labels: Tensor
    scale: float

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws a batch: scaled pictures (count, 3, H, W) and labels (count,)."""
        rows = torch.randint(len(self.labels), (count,), generator=generator)
        return self.scale * to_signed(self.pictures[rows]), self.labels[rows]


def build() -> DiT:
    """An untrained DiT; modulations and output layer are zero, and all blocks share one embedding.

    Source:
        Peebles and Xie 2023, arXiv 2212.09748, section 3.2. Published checkpoints hold the embedding once per block.
    """
    net = DiT(DiTConfig.from_dict(TRANSFORMER_CONFIG))
    blocks = [cast(Any, block) for block in net.transformer_blocks]
    shared = blocks[0].norm1.emb
    for block in blocks:
        block.norm1.emb = shared
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.normal_(shared.class_embedder.embedding_table.weight, std=0.02)
    for layer in (*(block.norm1.linear for block in blocks), net.proj_out_1, net.proj_out_2):
        nn.init.zeros_(layer.weight)
    return net


def exported(folder: Path) -> DiT:
    """The DiT of a checkpoint that a training exported, in float32, to be trained further.

    Args:
        folder: Folder of the checkpoint.

    Raises:
        FileNotFoundError: If the folder has no weights.
        RuntimeError: If they are those of another architecture.
    """
    net = build()
    net.load_state_dict(load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors"))
    return net


def labelled_loss(
    net: Any, data: LabelledData, settings: LabelledSettings, null: int, count: int, generator: torch.Generator
) -> Tensor:
    """Mean squared error of the predicted flow eps - x0 on `count` labelled pictures; dropped labels become `null`."""
    pictures, labels = data.draw(count, generator)
    labels = torch.where(torch.rand(count, generator=generator) < settings.label_dropout, null, labels)
    x, sigma, flow = noised(pictures, settings.level_shift, generator)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = net(x, 1000 * sigma, labels)
    return (prediction.float() - flow).square().mean()


def train_labelled(
    team: Team,
    settings: LabelledSettings,
    data: LabelledData,
    folder: Path,
    log: Log,
    sheet: Callable[[DiT, Path], None],
    start: Path | None = None,
) -> None:
    """Trains the transformer; the result is folder/flow.pt.

    Args:
        team: The workers.
        settings: The settings.
        data: Pictures and labels.
        folder: Folder to write to and to resume from.
        log: Writes progress.
        sheet: `sheet(net, path)` writes a contact sheet of the averaged network.
        start: Folder of an exported checkpoint whose weights a new training begins from; None begins from random ones.
    """
    torch.manual_seed(settings.seed)
    net = build() if start is None else exported(start)
    network = compiled(net, settings.compile)

    def loss(count: int, generator: torch.Generator) -> Tensor:
        with sdpa_kernel(ATTENTION):
            return labelled_loss(network, data, settings, net.null_label, count, generator)

    def show(ema: Ema, path: Path) -> None:
        sheet(averaged(build(), net, ema), path)

    train_loop(team, settings, net, loss, folder / "flow.pt", log, show)
