"""The model cards of the embedded checkpoints: facts of a training, filled into the templates beside this file.

Needs Jinja2, the extra `train`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import nn

from ...files.images import THRESHOLD
from ..data.captions import CARD_PROMPTS
from ..data.scenes import CLASSES
from ..loops.classifier import FEATURES
from ..loops.flow import T5_LENGTH, TRANSFORMER_CONFIG
from ..loops.labelled_flow import GUIDANCE, STEPS
from ..loops.labelled_flow import TRANSFORMER_CONFIG as LABELLED_CONFIG
from .score import Score


@dataclass(frozen=True)
class Facts:
    """What the card of `tiny-sd` says about a training.

    Attributes:
        counts: Numbers of pictures, variants, parameters, processor cores and the like, by the template's names.
        vae: What the training of the autoencoder recorded: samples, minutes, PSNR (dB).
        decoder: The same of the training of its decoder alone.
        diffusion: What the training of the U-Net recorded: samples, minutes, loss.
        vae_settings: Settings of the first training.
        decoder_settings: Settings of the second.
        diffusion_settings: Settings of the third.
        unet_config: Config of the U-Net.
        vae_config: Config of the autoencoder.
        text_config: Config of the text encoder.
    """

    counts: Mapping[str, int]
    vae: Mapping[str, Any]
    decoder: Mapping[str, Any]
    diffusion: Mapping[str, Any]
    vae_settings: Mapping[str, Any]
    decoder_settings: Mapping[str, Any]
    diffusion_settings: Mapping[str, Any]
    unet_config: Mapping[str, Any]
    vae_config: Mapping[str, Any]
    text_config: Mapping[str, Any]


def model_card(facts: Facts) -> str:
    """Returns the card of `tiny-sd` in Markdown."""
    counts = facts.counts
    return _render(
        "tiny-sd",
        **counts,
        millions=(counts["unet_parameters"] + counts["vae_parameters"] + counts["text_parameters"]) / 1e6,
        unet_channels=_channels(facts.unet_config),
        vae_channels=_channels(facts.vae_config),
        text_layers=facts.text_config["num_hidden_layers"],
        text_width=facts.text_config["hidden_size"],
        vocabulary=facts.text_config["vocab_size"],
        length=facts.text_config["max_position_embeddings"],
        vae_samples=facts.vae["samples"],
        vae_minutes=facts.vae["minutes"],
        encoded=facts.vae["psnr"],
        psnr=facts.decoder["psnr"],
        decoder_samples=facts.decoder["samples"],
        decoder_minutes=facts.decoder["minutes"],
        decoder_settings=_listed(facts.decoder_settings),
        samples=facts.diffusion["samples"],
        minutes=facts.diffusion["minutes"],
        loss=facts.diffusion["loss"],
        limit=facts.diffusion_settings["snr_limit"],
        vae_settings=_listed(facts.vae_settings),
        settings=_listed(facts.diffusion_settings),
        prompts=", ".join(CARD_PROMPTS),
    )


def flux_card(
    models: nn.ModuleDict, counts: Mapping[str, int], stages: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> str:
    """Returns the card of `tiny-flux` in Markdown.

    Args:
        models: The networks; "transformer" and "t5" are described.
        counts: Numbers of pictures, variants, words and processor cores, by the template's names.
        stages: Of the trainings "flow" and "distillation", the settings and what was recorded.
    """
    config, encoder = TRANSFORMER_CONFIG, models["t5"]
    t5: Any = encoder.config
    values: dict[str, Any] = {}
    for name, (settings, recorded) in stages.items():
        values[f"{name}_settings"] = _listed(settings)
        values |= {f"{name}_{field}": value for field, value in recorded.items()}
    flow, distillation = stages["flow"][0], stages["distillation"][0]
    return _render(
        "tiny-flux",
        **counts,
        **values,
        length=T5_LENGTH,
        dim=config["attention_head_dim"] * config["num_attention_heads"],
        heads=config["num_attention_heads"],
        double=config["num_layers"],
        single=config["num_single_layers"],
        axes="/".join(map(str, config["axes_dims_rope"])),
        transformer=_parameters(models["transformer"]),
        t5=_parameters(encoder),
        t5_layers=t5.num_layers,
        t5_width=t5.d_model,
        level_shift=flow["level_shift"],
        caption_dropout=flow["caption_dropout"],
        lowest_guidance=distillation["lowest_guidance"],
        highest_guidance=distillation["highest_guidance"],
        prompts=", ".join(CARD_PROMPTS),
    )


def dit_card(
    net: nn.Module,
    counts: Mapping[str, int],
    settings: Mapping[str, Any],
    recorded: Mapping[str, Any],
    scores: Mapping[str, Score],
) -> str:
    """Returns the card of `tiny-dit` in Markdown.

    Args:
        net: The transformer.
        counts: Numbers of pictures, scored pictures and processor cores, by the template's names.
        settings: Settings of the training.
        recorded: What it recorded: samples, minutes, loss.
        scores: Scores by what was scored: "generated" and "held_out" pictures.
    """
    config = LABELLED_CONFIG
    return _render(
        "tiny-dit",
        **counts,
        **recorded,
        **scores,
        classes=", ".join(CLASSES),
        config=config,
        dim=config["attention_head_dim"] * config["num_attention_heads"],
        parameters=_parameters(net),
        features=FEATURES,
        label_dropout=settings["label_dropout"],
        settings=_listed(settings),
        guidance=GUIDANCE,
        steps_drawn=STEPS,
    )


def controlnet_card(net: nn.Module, recorded: Mapping[str, Any], settings: Mapping[str, Any], workers: int) -> str:
    """Returns the card of `tiny-controlnet` in Markdown.

    Args:
        net: The ControlNet.
        recorded: What the training recorded: samples, minutes, loss.
        settings: Settings of the training.
        workers: Processor cores that it ran on.
    """
    return _render(
        "tiny-controlnet",
        **recorded,
        parameters=_parameters(net),
        settings=_listed(settings),
        workers=workers,
        threshold=THRESHOLD,
    )


def _render(name: str, **values: Any) -> str:
    loader = PackageLoader("sadaflow.training", "export")
    environment = Environment(  # Markdown, not HTML: nothing is escaped
        loader=loader, autoescape=False, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["thousands"] = lambda count: f"{count:,}"
    return environment.get_template(f"{name}.md.jinja").render(**values)


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _channels(config: Mapping[str, Any]) -> str:
    return "/".join(map(str, config["block_out_channels"]))
