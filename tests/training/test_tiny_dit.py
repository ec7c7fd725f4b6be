"""Training of tiny-dit: its pictures, the autoencoder that changes nothing, its loss, its score, and its files."""

import colorsys
import json
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial.distance import cdist
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.families.hooks import with_texts
from sadaflow.families.request import Request
from sadaflow.loading.embedded import EMBEDDED
from sadaflow.models import DiT
from sadaflow.pipeline.inputs import initial_noise
from sadaflow.pipeline.tuning import tuning_samples
from sadaflow.training.data.fields import SIDE, fractal_noise, frequencies, gradient, profile, step_up, varied
from sadaflow.training.data.scenes import CLASSES, SIZE, draw_scene, draw_scenes
from sadaflow.training.export.dit import MODEL_INDEX, SCHEDULER_CONFIG, write_dit_checkpoint
from sadaflow.training.export.identity_vae import DIT_VAE_CONFIG, identity_autoencoder
from sadaflow.training.export.score import nearest
from sadaflow.training.loops.data_parallel import Team
from sadaflow.training.loops.labelled_flow import (
    TRANSFORMER_CONFIG,
    LabelledData,
    LabelledSettings,
    build,
    labelled_loss,
    train_labelled,
)
from sadaflow.training.loops.loop import restored
from sadaflow.training.loops.state import Log
from sadaflow.training.tiny_dit import parse

FOLDER = EMBEDDED / "tiny-dit"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_fractal_noise_falls_by_its_power_and_is_normalised() -> None:
    fields = [fractal_noise(np.random.default_rng(seed), 1.5) for seed in range(24)]
    power = np.mean([np.abs(np.fft.fft2(field)) ** 2 for field in fields], axis=0)
    known = (frequencies() > 1) & (frequencies() < SIDE / 3)
    slope, _ = np.polyfit(np.log(frequencies()[known]), np.log(power[known]), 1)
    assert slope == pytest.approx(-3.0, abs=0.1)
    assert all(abs(field.mean()) < 1e-12 and field.std() == pytest.approx(1) for field in fields)
    line = profile(np.random.default_rng(0), 1.2)
    assert abs(line.mean()) < 1e-12 and line.std() == pytest.approx(1)


def test_colours_and_steps_are_what_they_say() -> None:
    (found,) = varied(np.random.default_rng(1), "4080c0")
    change = np.subtract(colorsys.rgb_to_hsv(*found), colorsys.rgb_to_hsv(64 / 255, 128 / 255, 192 / 255))
    assert (0 < np.abs(change)).all() and (np.abs(change) < (0.03, 0.12, 0.1)).all()
    np.testing.assert_allclose(gradient(np.array([0.25]), np.array([[0.0] * 3, [1] * 3, [3] * 3])), [[0.5] * 3])
    np.testing.assert_allclose(step_up(np.array([-1.0, 0, 0.01, 1]), 10), [0, 0.5, 0.6, 1])


def test_a_picture_depends_on_its_class_and_seed_alone() -> None:
    labels = torch.arange(len(CLASSES))
    pictures = draw_scenes(labels, 7)
    assert pictures.dtype == torch.uint8 and pictures.shape == (len(CLASSES), 3, SIZE, SIZE)
    assert torch.equal(pictures[3], draw_scene(3, 10))
    assert not torch.equal(draw_scene(3, 10), draw_scene(3, 11))
    assert (pictures.float().std((1, 2, 3)) > 8).all()


def test_the_autoencoder_changes_nothing_here_and_in_diffusers() -> None:
    vae = identity_autoencoder(DIT_VAE_CONFIG)
    images = 2 * torch.rand(2, 3, 32, 32, generator=generator()) - 1
    mean, log_variance = vae.encode(images)
    assert (mean - images).abs().max() < 1e-3 and (log_variance < -15).all()
    assert (vae.decode(images) - images).abs().max() < 1e-3
    assert (vae.bfloat16().decode(images.bfloat16()).float() - images).abs().max() < 1e-2
    theirs = diffusers.AutoencoderKL.from_config(DIT_VAE_CONFIG)
    theirs.load_state_dict(identity_autoencoder(DIT_VAE_CONFIG).state_dict())
    with torch.no_grad():
        assert (theirs.decode(images).sample - images).abs().max() < 1e-3
        assert (theirs.encode(images).latent_dist.mean - images).abs().max() < 1e-3


def test_the_exact_flow_has_no_loss_and_dropped_labels_cost() -> None:
    """Pictures of a class are of one brightness, which the oracle knows by the label; the null label means grey."""
    shades = torch.tensor([40, 90, 200])
    labels = torch.arange(3).repeat(4)
    data = LabelledData(shades[labels].to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4), labels, 2.0)
    known = 2.0 * (torch.cat((shades, torch.tensor([127]))) / 127.5 - 1)

    def oracle(x: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        return (x - known[labels].view(-1, 1, 1, 1)) / (times / 1000).view(-1, 1, 1, 1)

    losses = [
        float(labelled_loss(oracle, data, LabelledSettings(label_dropout=part), 3, 64, generator()))
        for part in (0.0, 0.5)
    ]
    assert losses[0] < 1e-4 and losses[1] > 0.1


def test_an_untrained_network_predicts_zero_and_has_one_embedding() -> None:
    torch.manual_seed(0)
    net = build()
    x, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 12])
    assert net(x, 500.0, labels).abs().max() == 0
    assert len({id(block.norm1.emb) for block in net.transformer_blocks}) == 1
    names = DiT(net.config).state_dict().keys()
    assert names == net.state_dict().keys()


def test_a_training_begins_from_exported_weights(tmp_path: Path) -> None:
    start = parse(["--from", str(FOLDER)]).start
    labels, settings = torch.arange(12), LabelledSettings(samples=1, batch=4, compile=False)
    data = LabelledData(draw_scenes(labels, 0), labels, 2.0)
    train_labelled(Team(), settings, data, tmp_path, Log(tmp_path / "log.txt"), lambda net, path: None, start)
    found = restored(tmp_path / "flow.pt", build()).state_dict()
    shipped = load_file(FOLDER / "transformer" / "diffusion_pytorch_model.safetensors")
    change = max(float((found[name] - tensor.float()).abs().max()) for name, tensor in shipped.items())
    assert 0 < change < 1e-4  # by one step of the optimiser, whose learning rate begins at a hundredth


def test_the_nearest_picture_is_found() -> None:
    pictures, seen = (torch.randint(0, 256, (n, 3, 4, 4), generator=generator(), dtype=torch.uint8) for n in (5, 9))
    expected = cdist(pictures.flatten(1).double(), seen.flatten(1).double()).min(1) / 255 / 48**0.5
    torch.testing.assert_close(nearest(pictures, seen, batch=2).double(), torch.from_numpy(expected))


def test_files_are_those_that_training_writes(tmp_path: Path) -> None:
    write_dit_checkpoint(tmp_path, build(), identity_autoencoder(DIT_VAE_CONFIG), "# card\n")
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    shipped = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert shipped - written <= {"sadaflow_calibrations.json"} and written <= shipped
    for name in written:
        if name.endswith(".json"):
            assert json.loads((FOLDER / name).read_text()) == json.loads((tmp_path / name).read_text()), name
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 8e6


@torch.no_grad()
def test_pictures_are_those_of_diffusers_networks_and_scheduler() -> None:
    """Its DiTPipeline is not used: 1000, its null label, and scheduler.scale_model_input do not fit this checkpoint."""
    net = diffusers.DiTTransformer2DModel.from_pretrained(FOLDER / "transformer").eval()
    vae = diffusers.AutoencoderKL.from_pretrained(FOLDER / "vae").eval()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(FOLDER / "scheduler")
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 6, 6))
    labels = torch.tensor([1, 10])
    x = initial_noise((3, 32, 32), [5, 6])
    for t in scheduler.timesteps:
        flow = net(torch.cat((x, x)), timestep=t.expand(4), class_labels=torch.cat((torch.tensor([12, 12]), labels)))
        plain, labelled = flow.sample.chunk(2)
        x = scheduler.step(plain + 2.0 * (labelled - plain), t, x).prev_sample
    expected = (vae.decode(x / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    out = Pipeline.from_pretrained("tiny-dit")(
        class_labels=["bubbles", "skyline"], seed=[5, 6], steps=6, accelerator=None, output="tensor"
    )
    assert (out.images - expected).abs().max() < 1e-4


def test_it_is_sampled_by_class_with_the_settings_of_its_files() -> None:
    pipe = Pipeline.from_pretrained("tiny-dit")
    assert pipe.default_guidance == 2.0 and pipe.family.default_size == (32, 32)
    assert MODEL_INDEX["id2label"] == {str(label): name for label, name in enumerate(CLASSES)}
    assert SCHEDULER_CONFIG["_class_name"] == "FlowMatchEulerDiscreteScheduler"
    assert TRANSFORMER_CONFIG["num_embeds_ada_norm"] == len(CLASSES)
    with pytest.raises(ValueError, match="did you mean 'marble'"):
        pipe(class_labels="marbel", steps=2)


def test_texts_are_labels_where_a_checkpoint_is_sampled_by_class() -> None:
    dit, flux = (Pipeline.from_pretrained(name) for name in ("tiny-dit", "tiny-flux"))
    found = with_texts(Request(seed=[3, 4]), dit.family, ["maze", "7"])
    assert (found.prompt, found.class_labels) == ((), ("maze", 7))
    assert with_texts(Request(seed=[3, 4]), flux.family, ["maze", "7"]).prompt == ("maze", "7")
    made = tuning_samples(dit, ["maze", "7"], 2, {"steps": 6}, lambda samples: None, "calibrate")
    ((denoise, _),) = made.batches(2)
    assert denoise.inner.conditional["class_labels"].tolist() == [list(CLASSES).index("maze"), 7]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="'labyrinth', which is not the name of a label"):
        tuning_samples(dit, ["labyrinth"], 2, {"steps": 6}, lambda samples: None, "calibrate")
