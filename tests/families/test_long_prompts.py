"""Prompts longer than CLIP's input: a straight-line reference with Diffusers, other samples of a batch, weights, words.

Diffusers has no chunks, so the reference encodes each piece with the text encoder of transformers by hand, and gives
the states to its pipeline.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.pipeline.inputs import initial_noise
from support.checkpoints import stable_diffusion, stable_diffusion_xl
from support.checkpoints_flux import flux
from support.pictures import quiet, relative

LONG = "a red apple beside two green pears on a white table, by night"  # three windows of 22 characters
SHORT = "a cat"
REFERENCES = {"sd": StableDiffusionPipeline, "xl": StableDiffusionXLPipeline}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {"sd": stable_diffusion(root / "sd", "sd15"), "xl": stable_diffusion_xl(root / "xl")}


@pytest.fixture(scope="module")
def pipes(folders: dict[str, Path]) -> dict[str, Pipeline]:
    return {name: Pipeline.from_pretrained(folder) for name, folder in folders.items()}


def window_ids(tokenizer: Any, ids: list[int]) -> Tensor:
    """One window: start, tokens, end, pads."""
    row = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return torch.tensor([row + [tokenizer.pad_token_id] * (24 - len(row))])


def in_chunks(tokenizer: Any, encoder: Any, prompt: str, windows: int) -> tuple[list[Any], Tensor]:
    """Outputs of the encoder for each window, and the last states of all of them, end to end."""
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        outputs = [
            encoder(window_ids(tokenizer, ids[22 * index : 22 * (index + 1)]), output_hidden_states=True)
            for index in range(windows)
        ]
    return outputs, torch.cat([output.last_hidden_state for output in outputs], dim=1)


def states_of(reference: Any, prompt: str, windows: int) -> tuple[Tensor, Tensor | None]:
    """What Diffusers' pipeline is given for a prompt."""
    outputs, last = in_chunks(reference.tokenizer, reference.text_encoder, prompt, windows)
    if not hasattr(reference, "text_encoder_2"):
        return last, None
    others, _ = in_chunks(reference.tokenizer_2, reference.text_encoder_2, prompt, windows)
    both = [torch.cat([output.hidden_states[-2] for output in own], dim=1) for own in (outputs, others)]
    return torch.cat(both, dim=-1), others[0].text_embeds


@pytest.mark.parametrize("name", ["sd", "xl"])
@pytest.mark.parametrize(("prompt", "negative"), [(LONG, SHORT), (SHORT, LONG)])
def test_pieces_are_encoded_apart_and_both_sides_are_as_long(
    folders: dict[str, Path], pipes: dict[str, Pipeline], name: str, prompt: str, negative: str
) -> None:
    reference = quiet(REFERENCES[name].from_pretrained(folders[name]))
    (states, pooled), (other, other_pooled) = (states_of(reference, text, 3) for text in (prompt, negative))
    embeds = {"prompt_embeds": states, "negative_prompt_embeds": other}
    if pooled is not None:
        embeds |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": other_pooled}
    noise = initial_noise((4, 16, 16), [3])
    theirs = reference(
        **embeds, num_inference_steps=3, guidance_scale=4.0, latents=noise, output_type="latent"
    ).images
    call = {"negative_prompt": negative, "steps": 3, "guidance": 4.0, "noise": noise, "output": "latent"}
    ours = pipes[name](prompt, long_prompts="chunks", **call)
    assert relative(ours.latents, theirs) < 1e-4
    with pytest.warns(UserWarning, match="tokens and is cut to 24"):
        cut = pipes[name](prompt, **call).latents
    assert relative(cut, theirs) > 1e-3


@pytest.mark.parametrize("name", ["sd", "xl"])
def test_a_sample_does_not_depend_on_the_length_of_others(pipes: dict[str, Pipeline], name: str) -> None:
    pipe, two = pipes[name], LONG[:30]
    call = {"steps": 2, "guidance": 4.0, "long_prompts": "chunks", "output": "latent"}
    negatives = [None, SHORT, LONG, None]
    prompts = [SHORT, two, SHORT, LONG]
    together = pipe(prompts, negative_prompt=negatives, seed=[1, 2, 3, 4], **call).latents
    for index in (1, 2):
        alone = pipe(prompts[index], negative_prompt=negatives[index], seed=index + 1, **call).latents
        assert relative(alone, together[index : index + 1]) < 1e-4
    plain = pipe(SHORT, seed=1, **{**call, "long_prompts": "cut"}).latents
    assert relative(plain, together[:1]) < 1e-4


def test_too_many_different_lengths_are_refused(pipes: dict[str, Pipeline]) -> None:
    prompts = ["x" * 22 * windows for windows in (5, 7, 8)]
    with pytest.raises(ValueError, match="120, 168, 192 encoded tokens .* calls of their own"):
        pipes["sd"](prompts, steps=1, long_prompts="chunks")


def test_a_learned_word_is_read_across_windows_and_with_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    """Five vectors that copy those of letters, of which two stand before the end of a window and three after it."""
    pipe = Pipeline.from_pretrained(folders["sd"])
    text: Any = pipe.family.text  # type: ignore[attr-defined]
    before = "x" * 19 + "y"
    letters = text.tokenizer("fghij", add_special_tokens=False)["input_ids"]
    vectors = text.encoder.get_input_embeddings().weight[letters].detach().clone()
    save_file({"<toy>": vectors}, tmp_path / "toy.safetensors")
    call = {"steps": 2, "guidance": 4.0, "output": "latent", "long_prompts": "chunks"}
    plain = pipe(f"{before} fghij", **call).latents
    weighted = pipe(f"{before} (fghij:1.4)", prompt_weights=True, **call).latents
    pipe.load_embedding(tmp_path / "toy.safetensors")
    assert relative(pipe(f"{before} <toy>", **call).latents, plain) < 1e-5
    assert relative(pipe(f"{before} (<toy>:1.4)", prompt_weights=True, **call).latents, weighted) < 1e-5
    assert relative(plain, weighted) > 1e-3


def test_flux_reads_as_many_tokens_as_asked_for(tmp_path: Path) -> None:
    """Also more than the tokenizer's model_max_length, which is what is read if no number is asked for."""
    folder = flux(tmp_path / "dev", "dev", num_layers=1, num_single_layers=1)
    reference = FluxPipeline.from_pretrained(folder)
    reference.tokenizer_2.model_max_length = 16
    reference.save_pretrained(folder)
    pipe, prompt = Pipeline.from_pretrained(folder), "a very long prompt about red apples"
    assert pipe.family.t5.tokenizer.model_max_length == 16  # type: ignore[attr-defined]
    noise = initial_noise((16, 12, 12), [5])
    packed = FluxPipeline._pack_latents(noise, *noise.shape)
    for asked in (512, 20):
        theirs = quiet(reference)(
            prompt, height=24, width=24, num_inference_steps=2, latents=packed, max_sequence_length=asked,
            output_type="latent",
        ).images  # fmt: skip
        ours = pipe(prompt, steps=2, noise=noise, max_sequence_length=asked, output="latent").latents
        assert relative(FluxPipeline._pack_latents(ours, *ours.shape), theirs) < 1e-4
    with pytest.warns(UserWarning, match="is cut to 16"):
        default = pipe(prompt, steps=2, noise=noise, output="latent").latents
    assert relative(default, pipe(prompt, steps=2, noise=noise, max_sequence_length=16, output="latent").latents) == 0
