"""Prompts that are given encoded: pictures of Diffusers' pipelines of all families, batch sizes, and refusals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.pipeline.inputs import initial_noise
from support.checkpoints import musicldm, stable_diffusion, stable_diffusion_xl
from support.checkpoints_chroma import chroma
from support.checkpoints_flux import flux
from support.checkpoints_flux2 import flux2_klein
from support.checkpoints_qwen_image import qwen_image
from support.checkpoints_sd3 import sd3
from support.checkpoints_z_image import z_image
from support.flux import packed
from support.pictures import quiet, relative


class Masked(diffusers.ChromaPipeline):  # type: ignore[misc]
    """The pipeline with a mask that is one: published, it is a bias of 1 in favour of what should be read alone."""

    def _prepare_attention_mask(self, *args: Any, **kwargs: Any) -> Any:
        mask = super()._prepare_attention_mask(*args, **kwargs)
        return None if mask is None else mask.bool()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def both_sides(states: tuple[int, ...], pooled: int | None = None) -> dict[str, Tensor]:
    found = {"prompt_embeds": normal(2, *states), "negative_embeds": normal(2, *states, seed=1)}
    if pooled is not None:
        found |= {"pooled_embeds": normal(2, pooled, seed=2), "negative_pooled_embeds": normal(2, pooled, seed=3)}
    return found


RENAMED = {
    "negative_embeds": "negative_prompt_embeds",
    "pooled_embeds": "pooled_prompt_embeds",
    "negative_pooled_embeds": "negative_pooled_prompt_embeds",
}


LENGTHS = {"prompt_embeds": (5, 9), "negative_embeds": (7, 3)}


def ragged(width: int) -> dict[str, list[Tensor]]:
    """States of prompts of different numbers of tokens."""
    return {name: [normal(length, width, seed=length) for length in own] for name, own in LENGTHS.items()}


def masked(embeds: Mapping[str, Any], mask: str = "attention_mask") -> dict[str, Any]:
    """The same, padded with noise that the masks leave out, as ChromaPipeline takes them."""
    found: dict[str, Any] = {}
    for name, rows in embeds.items():
        longest = max(map(len, rows))
        named = RENAMED.get(name, name)
        found[named] = torch.stack([torch.cat([row, normal(longest - len(row), row.shape[1])]) for row in rows])
        found[named.replace("embeds", mask)] = (
            torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
        )
    return found


def renamed(embeds: Mapping[str, Any]) -> dict[str, Any]:
    return {RENAMED.get(name, name): value for name, value in embeds.items()}


@dataclass(frozen=True)
class Case:
    """A family: its checkpoint, the pipeline of Diffusers, and a call with encoded prompts."""

    write: Callable[[Path], object]
    pipeline: Any
    embeds: Mapping[str, Any]
    size: tuple[int, int] = (32, 48)
    ours: Mapping[str, Any] = field(default_factory=lambda: {"guidance": 3.0})
    theirs: Mapping[str, Any] = field(default_factory=lambda: {"guidance_scale": 3.0})
    latents: Callable[[Tensor], Tensor] = lambda noise: noise
    names: Callable[[Mapping[str, Any]], dict[str, Any]] = renamed
    loading: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "sd": Case(
        lambda folder: stable_diffusion(folder, "sd15"), diffusers.StableDiffusionPipeline, both_sides((31, 32)),
    ),
    "xl": Case(stable_diffusion_xl, diffusers.StableDiffusionXLPipeline, both_sides((24, 48), 24)),
    "flux": Case(
        lambda folder: flux(folder, "dev"), diffusers.FluxPipeline, both_sides((24, 32), 32), latents=packed,
        ours={"guidance": 2.0, "true_guidance": 3.0}, theirs={"guidance_scale": 2.0, "true_cfg_scale": 3.0},
    ),
    "sd3": Case(
        lambda folder: sd3(folder, "3.5 medium"), diffusers.StableDiffusion3Pipeline, both_sides((40, 48), 44)
    ),
    "flux2": Case(flux2_klein, diffusers.Flux2KleinPipeline, both_sides((20, 48))),
    "z_image": Case(z_image, diffusers.ZImagePipeline, ragged(32)),
    "chroma": Case(chroma, Masked, ragged(48), latents=packed, names=masked),
    "qwen_image": Case(
        qwen_image, diffusers.QwenImagePipeline, ragged(32), latents=packed,
        names=partial(masked, mask="embeds_mask"), theirs={"true_cfg_scale": 3.0},
    ),
    "musicldm": Case(
        musicldm, diffusers.MusicLDMPipeline, both_sides((24,)), size=(32, 8), loading={"feature_extractor": None}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_pictures_are_those_of_diffusers(name: str, tmp_path: Path) -> None:
    case, folder = CASES[name], tmp_path / name
    case.write(folder)
    ours = Pipeline.from_pretrained(folder)
    height, width = case.size
    shape = ours.family.latent_channels, *(side // ours.family.vae.config.downscale for side in case.size)
    noise = initial_noise(shape, [3, 4])
    seen: list[Tensor] = []

    def keep(_: object, step: int, timestep: object, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(inputs["latents"])
        return inputs

    how: dict[str, Any] = {"num_inference_steps": 3, "latents": case.latents(noise), "output_type": "latent"}
    if name == "musicldm":
        how |= {"audio_length_in_s": height / 400, "callback": lambda step, timestep, x: seen.append(x)}
    else:
        how |= {"height": height, "width": width, "callback_on_step_end": keep}
    quiet(case.pipeline.from_pretrained(folder, **case.loading))(**case.names(case.embeds), **case.theirs, **how)
    out = ours(prompt=None, **case.embeds, **case.ours, steps=3, noise=noise, output="latent")
    found = out.latents.flatten(2).mT if name == "flux2" else case.latents(out.latents)
    assert relative(found, seen[-1]) < 1e-4


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {"sd": stable_diffusion(root / "sd", "sd15"), "xl": stable_diffusion_xl(root / "xl")}


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> dict[str, Pipeline]:
    return {name: Pipeline.from_pretrained(folder) for name, folder in folders.items()}


@pytest.mark.parametrize(("name", "width", "pooled"), [("sd", 32, None), ("xl", 48, 24)])
def test_a_missing_negative_is_the_empty_prompt_or_zeros(
    folders: dict[str, Path], loaded: dict[str, Pipeline], name: str, width: int, pooled: int | None
) -> None:
    embeds = {key: value for key, value in both_sides((24, width), pooled).items() if "negative" not in key}
    noise = initial_noise((4, 16, 16), [3, 4])
    theirs = quiet(CASES[name].pipeline.from_pretrained(folders[name]))(
        **renamed(embeds), num_inference_steps=2, guidance_scale=3.0, latents=noise, output_type="latent"
    ).images
    ours = loaded[name](**embeds, steps=2, guidance=3.0, noise=noise, output="latent")
    assert relative(ours.latents, theirs) < 1e-4


def test_each_prompt_has_its_own_negative_prompt(folders: dict[str, Path], loaded: dict[str, Pipeline]) -> None:
    prompts, negatives = ["a red apple", "grinning face!"], ["blurry", "a cat"]
    noise = initial_noise((4, 16, 16), [3, 4])
    theirs = quiet(CASES["sd"].pipeline.from_pretrained(folders["sd"]))(
        prompts, negative_prompt=negatives, num_inference_steps=2, guidance_scale=3.0, latents=noise,
        output_type="latent",
    ).images  # fmt: skip
    ours = loaded["sd"](prompts, negative_prompt=negatives, steps=2, guidance=3.0, noise=noise, output="latent")
    assert relative(ours.latents, theirs) < 1e-4


def test_the_samples_are_those_of_the_embeddings(loaded: dict[str, Pipeline]) -> None:
    """Their number is that of the rows; each is what it is alone; and text may stand on either side."""
    pipe, call = loaded["sd"], {"steps": 1, "guidance": 3.0, "output": "latent"}
    rows, negatives = normal(3, 24, 32), normal(3, 24, 32, seed=1)
    three = pipe(prompt_embeds=rows, negative_prompt=["a", None, "b"], seed=[1, 2, 3], **call).latents
    assert relative(pipe(prompt_embeds=[rows[2]], negative_prompt="b", seed=3, **call).latents, three[2:]) < 1e-4
    own = pipe.family.text.encode(["a cat"])  # type: ignore[attr-defined]
    text = pipe("a cat", negative_embeds=negatives[:1], **call).latents
    assert relative(text, pipe(prompt_embeds=own, negative_embeds=negatives[:1], **call).latents) < 1e-5


@pytest.mark.parametrize(
    ("name", "call", "match"),
    [
        ("sd", {"prompt_embeds": normal(1, 24, 31)}, r"has shape \(1, 24, 31\), expected \(1, tokens, 32"),
        ("sd", {"prompt_embeds": normal(24, 32)}, r"prompt_embeds has shape \(24, 32\), expected \(24, tokens, 32"),
        ("sd", {"prompt_embeds": normal(1, 24, 32) / 0}, r"prompt_embeds\[0\].* NaN or infinity"),
        ("sd", {"prompt_embeds": torch.ones(1, 24, 32, dtype=torch.int64)}, "int64"),
        ("sd", {"prompt_embeds": [[1.0]]}, "prompt_embeds=.* cannot be used: give a tensor"),
        ("sd", {"prompt_embeds": normal(1, 24, 32), "negative_embeds": normal(2, 24, 32)}, "2 rows for 1 samples"),
        ("sd", {"prompt_embeds": normal(1, 24, 32), "negative_embeds": normal(1, 25, 32)}, r"\[24\] .* \[25\]"),
        ("sd", {"prompt_embeds": normal(1, 25, 32)}, "25 tokens, not a multiple of the 24 .*give negative_embeds"),
        ("sd", {"prompt_embeds": normal(1, 24, 32), "prompt": "a"}, "prompt_embeds= and prompt= both"),
        ("sd", {"prompt": "a", "negative_embeds": normal(1, 31, 32)}, "encoded to 24 tokens and negative_prompt to 31"),
        ("sd", {"prompt": "a", "pooled_embeds": normal(1, 24)}, "pooled_embeds= needs prompt_embeds="),
        ("sd", {"prompt_embeds": normal(1, 24, 32), "pooled_embeds": normal(1, 24)}, "no effect on a StableDiffusion"),
        ("sd", {"prompt_embeds": normal(2, 24, 32), "seed": [1]}, "1 seeds for 2 prompts"),
        ("xl", {"prompt_embeds": normal(1, 24, 48)}, r"prompt_embeds= needs pooled_embeds=, \(1, 24\)"),
        ("xl", {"prompt_embeds": normal(1, 24, 48), "pooled_embeds": normal(1, 23)}, r"\(1, 23\), expected \(1, 24"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    loaded: dict[str, Pipeline], name: str, call: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        loaded[name](**call, steps=1, guidance=3.0)


def test_names_of_diffusers_are_answered(loaded: dict[str, Pipeline]) -> None:
    with pytest.raises(ValueError, match="here it is negative_embeds="):
        loaded["sd"](negative_prompt_embeds=normal(1, 24, 32))  # type: ignore[call-arg]
