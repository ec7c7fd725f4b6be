"""MusicLDM against Diffusers on a random checkpoint: network, latents and sound."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import MusicLDMPipeline, UNet2DConditionModel
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from sadaflow import Pipeline
from sadaflow.families import Request
from sadaflow.models import UNet, UNetConfig
from sadaflow.pipeline.inputs import initial_noise
from support.checkpoints import musicldm

PROMPTS = ["slow piano", "drums!"]


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return musicldm(tmp_path_factory.mktemp("music") / "musicldm")


def _reference(folder: Path) -> MusicLDMPipeline:
    reference = MusicLDMPipeline.from_pretrained(folder, feature_extractor=None)
    reference.set_progress_bar_config(disable=True)
    features = reference.text_encoder.get_text_features

    def vectors(*args: object, **kwargs: object) -> torch.Tensor:
        """Since transformers 5 the features come inside an object, which this pipeline does not expect."""
        found = features(*args, **kwargs)
        return found if isinstance(found, torch.Tensor) else found.pooler_output

    reference.text_encoder.get_text_features = vectors
    return reference


def test_full_size_network_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        theirs = UNet2DConditionModel(
            block_out_channels=(128, 256, 384, 640),
            cross_attention_dim=(128, 256, 384, 640),
            down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 3),
            up_block_types=(*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"),
            in_channels=8,
            out_channels=8,
            class_embed_type="simple_projection",
            class_embeddings_concat=True,
            projection_class_embeddings_input_dim=512,
        )
        ours = UNet(UNetConfig.from_dict(dict(theirs.config)))
    shapes = [{name: tuple(t.shape) for name, t in net.state_dict().items()} for net in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_backbone_gives_the_reference_prediction(folder: Path) -> None:
    theirs = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    ours = Pipeline.from_pretrained(folder).backbone
    torch.manual_seed(0)
    x, vector = torch.randn(2, 4, 18, 4), torch.randn(2, 24)
    with torch.no_grad():
        expected = theirs(x, 321, None, class_labels=vector).sample
        assert relative(ours(x, 321.0, class_vector=vector), expected) < 1e-5


@pytest.mark.parametrize("seconds", [None, 0.108])
def test_latents_and_sound_match(folder: Path, seconds: float | None) -> None:
    reference, pipe = _reference(folder), Pipeline.from_pretrained(folder)
    frames = pipe.family.default_size[0] if seconds is None else 44
    noise = initial_noise((4, frames // 2, 4), [3, 4])

    def theirs(output: str) -> torch.Tensor:
        return reference(
            PROMPTS,
            audio_length_in_s=seconds,
            negative_prompt=["noisy"] * 2,
            num_inference_steps=9,
            guidance_scale=3.0,
            latents=noise.clone(),
            output_type=output,
        ).audios

    ours = pipe(PROMPTS, negative_prompt="noisy", steps=9, guidance=3.0, seed=[3, 4], seconds=seconds)
    assert relative(ours.latents, theirs("latent")) < 1e-4
    assert ours.sample_rate == 1600 and ours.audio is not None
    assert relative(ours.audio, theirs("pt")) < 1e-4
    assert ours.images.shape == (2, 1, frames, 8)


@pytest.mark.parametrize("seconds", [None, 0.108])
def test_a_vocoder_that_makes_more_is_cut_to_the_length(folder: Path, tmp_path: Path, seconds: float | None) -> None:
    """As the published one does: a kernel that is wider than its stride by an odd number adds samples."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = SpeechT5HifiGanConfig.from_pretrained(copy / "vocoder", upsample_kernel_sizes=[5, 5])
    torch.manual_seed(1)
    SpeechT5HifiGan(config).save_pretrained(copy / "vocoder")
    pipe, reference = Pipeline.from_pretrained(copy), _reference(copy)
    frames = pipe.family.default_size[0] if seconds is None else pipe.family.frames(seconds)  # type: ignore[attr-defined]
    noise = initial_noise((4, frames // 2, 4), [3])
    call = {"num_inference_steps": 3, "guidance_scale": 2.0, "latents": noise.clone(), "output_type": "pt"}
    theirs = reference("slow piano", audio_length_in_s=seconds, **call).audios
    for ours in (
        pipe("slow piano", steps=3, guidance=2.0, noise=noise, seconds=seconds),
        pipe("slow piano", steps=3, guidance=2.0, seed=3, seconds=seconds),
    ):
        assert ours.audio is not None and ours.audio.shape == theirs.shape
        assert relative(ours.audio, theirs) < 1e-4
        whole = pipe.family.waveform(ours.images)  # type: ignore[attr-defined]
        assert whole.shape[1] > theirs.shape[1]


def test_sada_runs_per_sample(folder: Path) -> None:
    out = Pipeline.from_pretrained(folder)(PROMPTS, steps=20, accelerator="sada", output="latent")
    for nfe, modes in zip(out.stats.nfe, out.stats.modes, strict=True):
        assert len(modes) == 20 and nfe == modes.count("full") < 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seconds": 0.001}, "seconds=0.001"),
        ({"seconds": float("nan")}, "seconds=nan"),
        ({"seconds": 1.0, "height": 32}, "leave one out"),
        ({"width": 16}, "8 mel bands"),
        ({"output": "pil"}, "audio, tensor, latent"),
        ({"control": torch.zeros(3, 8, 8)}, "controlnet="),
    ],
)
def test_calls_that_do_not_fit_are_refused(folder: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Pipeline.from_pretrained(folder)("a", steps=2, **arguments)


@pytest.mark.parametrize("longest", [10**30, None])
def test_prompts_are_cut_where_the_positions_of_the_text_encoder_end(
    folder: Path, tmp_path: Path, longest: int | None
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    path = copy / "tokenizer/tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": longest}))
    if longest is None:
        path.unlink()
    family: Any = Pipeline.from_pretrained(copy).family
    prompt = "x" * 60
    with pytest.warns(UserWarning, match="cut to 38"):
        ours = family.condition(Request([prompt], guidance=1.0, height=16, width=8)).conditional["class_vector"]
    reference = _reference(folder)
    batch = reference.tokenizer([prompt], max_length=38, truncation=True, return_tensors="pt")
    with torch.no_grad():
        vectors = reference.text_encoder.get_text_features(**batch)
        assert relative(ours, torch.nn.functional.normalize(vectors, dim=-1)) < 1e-5
        with pytest.raises((IndexError, RuntimeError)):  # one more has no position
            reference.text_encoder.get_text_features(**reference.tokenizer(["x" * 37], return_tensors="pt"))


@pytest.mark.parametrize(
    ("component", "part", "change", "words"),
    [
        ("text_encoder", "text_config", {"max_position_embeddings": 2**20}, "asks for"),
        ("text_encoder", "text_config", {"vocab_size": 2**24}, "asks for"),
        ("text_encoder", "text_config", {"num_hidden_layers": 1000}, "far more tensors"),
        ("text_encoder", "text_config", {"pad_token_id": 39}, "pad_token_id=39"),
        ("text_encoder", "text_config", {"pad_token_id": None}, "pad_token_id=None"),
        ("text_encoder", "text_config", {"max_position_embeddings": 10**12}, "max_position_embeddings=1000000000000"),
        ("text_encoder", "text_config", {"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000"),
        ("text_encoder", "audio_config", {"depths": [1000, 1000]}, "far more"),
        ("text_encoder", "audio_config", {"depths": [10**9, 1]}, "depths="),
        ("text_encoder", "audio_config", {"window_size": 3000}, "asks for"),
        ("vocoder", None, {"upsample_initial_channel": 2**20}, "asks for"),
        ("vocoder", None, {"resblock_kernel_sizes": [3] * 10**4, "resblock_dilation_sizes": [[1]] * 10**4}, "resblock"),
    ],
)
def test_configs_beyond_measure(
    folder: Path, tmp_path: Path, component: str, part: str | None, change: dict[str, Any], words: str
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    path = copy / component / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **change} if part is None else {**config, part: {**config[part], **change}}))
    with pytest.raises(ValueError, match=words) as caught:
        Pipeline.from_pretrained(copy)
    assert component in str(caught.value)
