"""ControlNets of Stable Diffusion 3 and 3.5: latents of Diffusers on random weights, accelerators, and refusals."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor

from sadaflow import Pipeline
from sadaflow.models.sd3 import SD3ControlNet, SD3ControlNetConfig
from sadaflow.pipeline.inputs import initial_noise
from support.accelerated import ACCELERATORS, STEPS, check_acceleration
from support.checkpoints_flux import flux
from support.checkpoints_sd3 import sd3
from support.checkpoints_steered import SD3_NETS, flux_controlnet, sd3_controlnet
from support.pictures import picture, posterior_mode, quiet, relative

pytestmark = pytest.mark.usefixtures(posterior_mode.__name__)

PROMPTS = ["a red apple", "grinning face on wood!"]
NEGATIVES = ["blurry", "cut off at a side"]
SIZE = (24, 16)
CALL: dict[str, Any] = {"height": SIZE[0], "width": SIZE[1], "output": "latent", "guidance": 2.5}
NOISE = initial_noise((16, SIZE[0] // 2, SIZE[1] // 2), [3, 4])


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sd3")
    return {"3 canny": sd3(root / "medium", "3 medium"), "3.5 large": sd3(root / "large", "3.5 large")}


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    root = tmp_path_factory.mktemp("nets")
    return {style: [sd3_controlnet(root / f"{style}-{seed}", style, seed) for seed in (5, 6)] for style in SD3_NETS}


def theirs(base: Path, nets: list[Path], pictures: list[Any], processor: Any = None, **call: Any) -> torch.Tensor:
    loaded = [diffusers.SD3ControlNetModel.from_pretrained(net) for net in nets]
    pipe = quiet(
        diffusers.StableDiffusion3ControlNetPipeline.from_pretrained(
            base, controlnet=loaded[0] if len(loaded) == 1 else diffusers.SD3MultiControlNetModel(loaded)
        )
    )
    if processor is not None:
        pipe.image_processor = processor
    made: torch.Tensor = pipe(
        PROMPTS, negative_prompt=NEGATIVES, latents=NOISE, num_inference_steps=4, guidance_scale=2.5, height=SIZE[0],
        width=SIZE[1], output_type="latent", control_image=pictures[0] if len(pictures) == 1 else pictures, **call,
    ).images  # fmt: skip
    return made


@pytest.mark.parametrize("style", SD3_NETS)
def test_full_size_networks_have_the_published_names_and_shapes(style: str) -> None:
    with torch.device("meta"):
        published = diffusers.SD3ControlNetModel.from_config(SD3_NETS[style])
        ours = SD3ControlNet(SD3ControlNetConfig.from_dict(SD3_NETS[style]))
    shapes = [{name: tuple(t.shape) for name, t in net.state_dict().items()} for net in (ours, published)]
    assert shapes[0] == shapes[1]
    assert sum(tensor.numel() for tensor in ours.parameters()) > 3e8


@pytest.mark.parametrize("style", SD3_NETS)
def test_latents_match(bases: dict[str, Path], nets: dict[str, list[Path]], style: str) -> None:
    pipe = Pipeline.from_pretrained(bases[style], controlnet=nets[style][0])
    call = {"negative_prompt": NEGATIVES, "steps": 4, "noise": NOISE, "control": picture(), **CALL}
    ours = pipe(PROMPTS, control_scale=0.7, **call).latents
    made = theirs(bases[style], nets[style][:1], [picture()], controlnet_conditioning_scale=0.7)
    assert relative(ours, made) < 1e-5
    assert relative(pipe(PROMPTS, control_scale=0.0, **call).latents, made) > 1e-2


def test_several_networks_begin_and_end(bases: dict[str, Path], nets: dict[str, list[Path]]) -> None:
    pipe = Pipeline.from_pretrained(bases["3 canny"], controlnet=nets["3 canny"])
    pictures, scales = [picture(0), picture(1)], [0.5, 1.2]
    part = {"control_scale": scales, "control_start": [0.0, 0.25], "control_end": [0.75, 1.0], "control": pictures}
    ours = pipe(PROMPTS, negative_prompt=NEGATIVES, steps=4, noise=NOISE, **part, **CALL).latents
    made = theirs(
        bases["3 canny"], nets["3 canny"], pictures, controlnet_conditioning_scale=scales,
        control_guidance_start=[0.0, 0.25], control_guidance_end=[0.75, 1.0],
    )  # fmt: skip
    assert relative(ours, made) < 1e-5


class _Bytes(VaeImageProcessor):
    """The processor that the page of stable-diffusion-3.5-large-controlnet-canny gives its pipeline."""

    def preprocess(self, image: Any, **how: Any) -> torch.Tensor:
        return super().preprocess(image, **how) * 127.5 + 0.5


def test_canny_of_3_5_large_reads_bytes(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = sd3_controlnet(tmp_path / "stable-diffusion-3.5-large-controlnet-canny", "3.5 large")
    pipe = Pipeline.from_pretrained(bases["3.5 large"], controlnet=folder)
    ours = pipe(PROMPTS, negative_prompt=NEGATIVES, steps=4, noise=NOISE, control=picture(), **CALL).latents
    processor = _Bytes(vae_scale_factor=2, do_normalize=False)
    assert relative(ours, theirs(bases["3.5 large"], [folder], [picture()], processor)) < 1e-5


@pytest.fixture(scope="module")
def controlled(bases: dict[str, Path], nets: dict[str, list[Path]]) -> tuple[Pipeline, dict[str, Any], Any]:
    pipe = Pipeline.from_pretrained(bases["3.5 large"], controlnet=nets["3.5 large"][0])
    call = {**CALL, "seed": [1, 2], "control": picture(), "max_sequence_length": 24}
    return pipe, call, pipe(PROMPTS, steps=STEPS, **call)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_accelerators_decide_per_sample(controlled: tuple[Pipeline, dict[str, Any], Any], accelerator: str) -> None:
    pipe, call, plain = controlled
    check_acceleration(accelerator, pipe, PROMPTS, call, plain)


@pytest.mark.parametrize(
    ("field", "value"), [("extra_conditioning_channels", 1), ("pos_embed_type", None), ("novel", 1)]
)
def test_configs_that_cannot_be_honoured_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        SD3ControlNetConfig.from_dict({**SD3_NETS["3 canny"], field: value})


def test_networks_that_do_not_fit_are_refused(
    bases: dict[str, Path], nets: dict[str, list[Path]], tmp_path: Path
) -> None:
    other = flux_controlnet(tmp_path / "flux-net", "canny")
    with pytest.raises(ValueError, match="is a FluxControlNetModel; a StableDiffusion3 checkpoint takes a SD3Control"):
        Pipeline.from_pretrained(bases["3 canny"], controlnet=other)
    with pytest.raises(ValueError, match="is a SD3ControlNetModel; a Flux checkpoint takes a FluxControlNetModel"):
        Pipeline.from_pretrained(flux(tmp_path / "flux", "dev"), controlnet=nets["3 canny"][0])
    small = sd3_controlnet(tmp_path / "small", "3 canny", pos_embed_max_size=4)
    pipe = Pipeline.from_pretrained(bases["3 canny"], controlnet=small)
    with pytest.raises(ValueError, match="pos_embed_max_size"):
        pipe(PROMPTS[0], steps=2, control=picture(), **CALL)
