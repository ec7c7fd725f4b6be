"""The model card of `tiny-flux`."""

# ruff: noqa: E501 (table rows and paragraphs are one line each in Markdown)

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..data.captions import CARD_PROMPTS
from ..loops.flow import T5_LENGTH, TRANSFORMER_CONFIG

VERDICT = """\
Drawn by Euler's method in 25 steps at embedded guidance 3.5 and seed 0; judged by eye with the prompts known, all 20 are
recognisable. The watermelon's rind is brown and the strawberry's leaves are too: the autoencoder loses green beside red.
"""

_CARD = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags: [flux, flow-matching, text-to-image, emoji]
---
# tiny-flux

A text-to-image flow-matching model in the architecture of Flux.1 dev, small enough to ship inside a Python package: 64x64 pictures of
emoji, one network evaluation a step. It exists so that samplers and accelerators can be tried and tested on a real, trained
flow transformer without a download. The files are in the layout of Diffusers' `FluxPipeline`, in half precision.

```python
from sadaflow import Pipeline
Pipeline.from_pretrained("tiny-flux")("red apple").images[0].save("apple.png")
```

With Diffusers: `sadaflow export tiny-flux FOLDER` writes a complete copy, since the components of tiny-sd are stored there only. Call
it with `height=64, width=64, max_sequence_length={length}`: Diffusers' defaults are those of Flux.1.

| part | architecture | parameters |
|---|---|---|
| `transformer` | FluxTransformer2DModel, width {dim}, {heads} heads, {double} double and {single} single blocks, rotary axes {axes}, embedded guidance | {transformer:,} |
| `text_encoder_2` | T5EncoderModel, {t5_layers} layers of width {t5_width}, {length} tokens, trained from scratch with the transformer | {t5:,} |
| `tokenizer_2` | T5TokenizerFast with a vocabulary of {vocabulary}: the words of the captions, and single characters | |
| `text_encoder`, `tokenizer`, `vae` | those of [tiny-sd](../tiny-sd/README.md), frozen | |
| `scheduler` | FlowMatchEulerDiscreteScheduler, shift by resolution: exp(0.5) at 64 image tokens | |

## Data and training

The {pictures} emoji of tiny-sd with {variants} variants each, and its captions. `make tiny-flux`, on processor cores only.

| | rectified flow | guidance distillation |
|---|---|---|
| samples | {flow_samples:,} | {distillation_samples:,} |
| minutes on {workers} processor cores, shared with other work | {flow_minutes} | {distillation_minutes} |
| loss (running mean) | {flow_loss:.4f} | {distillation_loss:.4f} |

First the flow eps - x0 is learned at levels sigma whose logits are normal around {level_shift} (after Esser et al. 2024, arXiv 2403.03206),
captions dropped with probability {caption_dropout}. Then a copy learns the guided flow of the first network, at guidance numbers uniform between
{lowest_guidance:g} and {highest_guidance:g} (after Meng et al. 2023, arXiv 2210.03142), so that one evaluation does the work of two; the T5 encoder stays as it is.
The exported weights are an exponential moving average.

Settings of the flow: {flow_settings}.

Settings of the distillation: {distillation_settings}.

## Prompts of the contact sheet

`docs/tiny-flux-contact-sheet.png`: {prompts}.

{verdict}
## Limits

Those of tiny-sd: it knows emoji and nothing else, and draws recollections of the pictures it was trained on. A prompt of capitals
falls apart into characters that `tokenizer_2` saw rarely; write in lower case.
"""


def flux_card(
    models: nn.ModuleDict, counts: Mapping[str, int], stages: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> str:
    """Markdown text of the card; `stages` holds the settings and the recorded facts of both trainings."""
    config, encoder = TRANSFORMER_CONFIG, models["t5"]
    t5: Any = encoder.config
    values: dict[str, Any] = {}
    for name, (settings, facts) in stages.items():
        values[f"{name}_settings"] = ", ".join(f"{field} {value}" for field, value in settings.items())
        values |= {f"{name}_{field}": value for field, value in facts.items()}
    flow, distillation = stages["flow"][0], stages["distillation"][0]
    return _CARD.format(
        **counts,
        **values,
        length=T5_LENGTH,
        dim=config["attention_head_dim"] * config["num_attention_heads"],
        heads=config["num_attention_heads"],
        double=config["num_layers"],
        single=config["num_single_layers"],
        axes="/".join(map(str, config["axes_dims_rope"])),
        transformer=sum(parameter.numel() for parameter in models["transformer"].parameters()),
        t5=sum(parameter.numel() for parameter in encoder.parameters()),
        t5_layers=t5.num_layers,
        t5_width=t5.d_model,
        level_shift=flow["level_shift"],
        caption_dropout=flow["caption_dropout"],
        lowest_guidance=distillation["lowest_guidance"],
        highest_guidance=distillation["highest_guidance"],
        prompts=", ".join(CARD_PROMPTS),
        verdict=VERDICT and VERDICT + "\n",
    )
