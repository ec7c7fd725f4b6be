"""Trains a small Flux transformer with its T5 encoder on the rectified flow, and distils its guidance."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sadaflow.models import FluxConfig, FluxTransformer

from .data_parallel import Team
from .loop import averaged, restored, train_loop
from .sampler import CaptionSettings, choose
from .state import Ema, Log

T5_WIDTH = 128
T5_LENGTH = 16
ATTENTION = SDPBackend.MATH  # the fused kernel's backward pass takes a third of all time at 80 tokens in bfloat16

TRANSFORMER_CONFIG: dict[str, Any] = {
    "_class_name": "FluxTransformer2DModel",
    "attention_head_dim": 32,
    "axes_dims_rope": [8, 12, 12],
    "guidance_embeds": True,
    "in_channels": 16,
    "joint_attention_dim": T5_WIDTH,
    "num_attention_heads": 6,
    "num_layers": 2,
    "num_single_layers": 8,
    "out_channels": None,
    "patch_size": 1,
    "pooled_projection_dim": 160,
}


@dataclass(frozen=True)
class FlowSettings(CaptionSettings):
    """Settings of the training of the transformer and the T5 encoder.

    Attributes:
        level_shift: Mean of the logits of the noise levels; see `noise_levels`.
        compile: Whether the network is compiled.
    """

    minutes: float = 47.0
    batch: int = 32
    level_shift: float = 0.5
    compile: bool = True


@dataclass(frozen=True)
class DistillationSettings(FlowSettings):
    """Settings of the guidance distillation.

    Attributes:
        lowest_guidance: Smallest guidance strength that is embedded.
        highest_guidance: Largest guidance strength that is embedded.
    """

    minutes: float = 12.0
    learning_rate: float = 3e-4
    cooldown: float = 0.7
    warm_up_steps: int = 100
    caption_dropout: float = 0.0
    lowest_guidance: float = 1.0
    highest_guidance: float = 6.0


@dataclass(frozen=True)
class FlowData:
    """The training data of the transformer.

    Attributes:
        latents: Latents (N, variants, 4, 16, 16); the first variant is the unvaried picture.
        weights: Sampling weights (N,).
        tokens: T5 ids (P, N, C, L) of P phrasings of up to C captions; the first phrasing is the caption itself.
        pooled: Pooled CLIP states (P, N, C, D) of the same texts.
        captions: Number of captions (N,) of each picture.
        empty_tokens: T5 ids (L,) of the empty caption.
        empty_pooled: Pooled CLIP state (D,) of the empty caption.
    """

    latents: Tensor
    weights: Tensor
    tokens: Tensor
    pooled: Tensor
    captions: Tensor
    empty_tokens: Tensor
    empty_pooled: Tensor

    def draw(
        self, count: int, settings: CaptionSettings, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a batch: latents (count, 4, 16, 16), T5 ids (count, L) and pooled CLIP states (count, D)."""
        sizes = self.latents.shape[1], len(self.tokens)
        choice = choose(self.weights, self.captions, *sizes, count, settings, generator)
        texts = choice.phrasing, choice.rows, choice.captions
        return self.latents[choice.rows, choice.variants], self.tokens[texts], self.pooled[texts]

    def drop(self, tokens: Tensor, pooled: Tensor, dropped: Tensor) -> tuple[Tensor, Tensor]:
        """Replace the captions of the rows that `dropped` (B,) marks by the empty caption."""
        mask = dropped[:, None]
        return torch.where(mask, self.empty_tokens, tokens), torch.where(mask, self.empty_pooled, pooled)


def t5_encoder(vocabulary: int) -> Any:
    """An untrained T5 encoder of the size of tiny-flux's."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary,
            d_model=T5_WIDTH,
            d_kv=32,
            d_ff=2 * T5_WIDTH,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )


def build(vocabulary: int) -> nn.ModuleDict:
    """An untrained "transformer" and "t5"; modulations and output layer are zero (DiT, arXiv 2212.09748)."""
    transformer = FluxTransformer(FluxConfig.from_dict(TRANSFORMER_CONFIG))
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
            if ".norm" in name or name in ("norm_out.linear", "proj_out") or "guidance_embedder.linear_2" in name:
                nn.init.zeros_(module.weight)
    return nn.ModuleDict({"transformer": transformer, "t5": t5_encoder(vocabulary)})


def noise_levels(count: int, shift: float, generator: torch.Generator) -> Tensor:
    """Noise levels sigma (count,) with logit(sigma) ~ N(shift, 1), one from each of `count` equal parts of the mass.

    Esser et al. 2024 (arXiv 2403.03206, section 3.1) found this distribution best for rectified flow.
    """
    quantiles = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return torch.sigmoid(torch.special.ndtri(quantiles.double().clamp(1e-6, 1 - 1e-6)) + shift).float()


def noised(latents: Tensor, shift: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noised latents x = (1 - sigma) x0 + sigma eps, their levels sigma (B,), and the flow eps - x0."""
    sigma = noise_levels(len(latents), shift, generator)
    eps = torch.randn(latents.shape, generator=generator)
    return torch.lerp(latents, eps, sigma[:, None, None, None]), sigma, eps - latents


def flow_loss(
    transformer: Any, t5: Any, data: FlowData, settings: FlowSettings, count: int, generator: torch.Generator
) -> Tensor:
    """Mean squared error of the predicted flow eps - x0 on `count` captioned latents, at guidance 1."""
    latents, tokens, pooled = data.draw(count, settings, generator)
    tokens, pooled = data.drop(tokens, pooled, torch.rand(count, generator=generator) < settings.caption_dropout)
    x, sigma, flow = noised(latents, settings.level_shift, generator)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = transformer(x, 1000 * sigma, context=t5(tokens)[0], pooled=pooled, guidance=torch.ones(count))
    return (prediction.float() - flow).square().mean()


def distillation_loss(
    student: Any,
    teacher: Any,
    t5: Any,
    data: FlowData,
    settings: DistillationSettings,
    count: int,
    generator: torch.Generator,
) -> Tensor:
    """Mean squared error against the teacher's guided flow (Meng et al. 2023, arXiv 2210.03142, stage one).

    Guidance strengths are uniformly distributed, and embedded as in Flux.1 dev.
    """
    latents, tokens, pooled = data.draw(count, settings, generator)
    x, sigma, _ = noised(latents, settings.level_shift, generator)
    span = settings.highest_guidance - settings.lowest_guidance
    guidance = settings.lowest_guidance + span * torch.rand(count, generator=generator)
    empty, times = data.drop(tokens, pooled, torch.ones(count, dtype=torch.bool)), 1000 * sigma
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            context = t5(torch.cat((tokens, empty[0])))[0]
            conditional, unconditional = teacher(
                torch.cat((x, x)),
                torch.cat((times, times)),
                context=context,
                pooled=torch.cat((pooled, empty[1])),
                guidance=torch.ones(2 * count),
            ).float().chunk(2)
        prediction = student(x, times, context=context[:count], pooled=pooled, guidance=guidance)
    target = unconditional + guidance[:, None, None, None] * (conditional - unconditional)
    return (prediction.float() - target).square().mean()


def compiled(module: nn.Module, enabled: bool) -> Any:
    """The compiled module if `enabled`, else the module."""
    return torch.compile(module, dynamic=False) if enabled else module


def train_flow(
    team: Team, settings: FlowSettings, data: FlowData, vocabulary: int, folder: Path, log: Log, sheet: Any
) -> None:
    """Train the transformer and the T5 encoder; the result is folder/flow.pt.

    Args:
        team: The workers.
        settings: The settings.
        data: Latents and captions.
        vocabulary: Number of T5 tokens.
        folder: Folder to write to and to resume from.
        log: Writes progress.
        sheet: `sheet(models, path, guidance, true_guidance)` writes a contact sheet of the averaged models.
    """
    torch.manual_seed(settings.seed)
    models = build(vocabulary)
    transformer = compiled(models["transformer"], settings.compile)

    def loss(count: int, generator: torch.Generator) -> Tensor:
        with sdpa_kernel(ATTENTION):
            return flow_loss(transformer, models["t5"], data, settings, count, generator)

    def show(ema: Ema, path: Path) -> None:
        sheet(averaged(build(vocabulary), models, ema), path, 1.0, 4.0)

    train_loop(team, settings, models, loss, folder / "flow.pt", log, show)


def distil_guidance(
    team: Team, settings: DistillationSettings, data: FlowData, vocabulary: int, folder: Path, log: Log, sheet: Any
) -> None:
    """Distil the guidance of folder/flow.pt into a copy; the result is folder/distilled.pt (see `train_flow`)."""
    teacher, models = (restored(folder / "flow.pt", build(vocabulary)) for _ in range(2))
    models["transformer"].train().requires_grad_(True)
    student = compiled(models["transformer"], settings.compile)
    guide = compiled(teacher["transformer"], settings.compile)

    def loss(count: int, generator: torch.Generator) -> Tensor:
        with sdpa_kernel(ATTENTION):
            return distillation_loss(student, guide, models["t5"], data, settings, count, generator)

    def show(ema: Ema, path: Path) -> None:
        sheet(averaged(build(vocabulary), models, ema), path, 3.5, 1.0)

    train_loop(team, settings, models, loss, folder / "distilled.pt", log, show)
