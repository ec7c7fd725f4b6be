"""Training of tiny-flux and tiny-controlnet: noise levels, losses, distillation, edges, tokenizer, the loop."""

import pytest
import torch
from scipy.stats import kstest, logistic, norm
from skimage.feature import canny
from torch import nn

from sadaflow.files.images import edge_maps
from sadaflow.models import ControlledUNet, UNet, UNetConfig
from sadaflow.training.export.t5_tokenizer import write_t5_tokenizer
from sadaflow.training.loops.controlnet import build
from sadaflow.training.loops.data_parallel import Team
from sadaflow.training.loops.diffusion import UNET_CONFIG
from sadaflow.training.loops.flow import (
    DistillationSettings,
    FlowData,
    FlowSettings,
    distillation_loss,
    flow_loss,
    noise_levels,
    noised,
)
from sadaflow.training.loops.loop import train_loop
from sadaflow.training.loops.record import LoopSettings
from sadaflow.training.loops.state import Log


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_noise_levels_are_logit_normal_and_stratified():
    levels = noise_levels(4000, 0.5, generator()).double()
    logits = torch.logit(levels)
    assert kstest(logits.numpy(), norm(0.5, 1).cdf).statistic < 1e-3  # of independent draws it would be about 0.01
    assert torch.equal(levels, levels.sort().values)
    assert kstest(levels.numpy(), logistic.cdf).statistic > 0.1


def test_noised_points_lie_on_the_straight_path():
    latents = torch.randn(6, 4, 2, 2, generator=generator(1))
    x, sigma, flow = noised(latents, 0.0, generator())
    torch.testing.assert_close(x - sigma[:, None, None, None] * flow, latents)


def captions(count=5):
    """Pictures that are constants, whose captions and pooled states are the same constant."""
    line = torch.arange(1.0, count + 1)
    return FlowData(
        latents=line.view(count, 1, 1, 1, 1).expand(count, 3, 4, 2, 2),
        weights=torch.ones(count),
        tokens=line.view(1, count, 1, 1).expand(2, count, 2, 6),
        pooled=line.view(1, count, 1, 1).expand(2, count, 2, 3),
        captions=torch.full((count,), 2),
        empty_tokens=torch.zeros(6),
        empty_pooled=torch.zeros(3),
    )


def oracle(x, times, *, context, pooled, guidance):
    """The flow of pictures that are the constant their caption names, that is told twice."""
    assert torch.equal(context[:, 0, None].expand_as(pooled), pooled)
    sigma = (times / 1000)[:, None, None, None]
    return (x - context[:, 0, None, None, None]) / sigma


def states(tokens):
    return (tokens,)


def test_the_exact_flow_has_no_loss_and_dropped_captions_cost():
    draw = (oracle, states, captions())
    assert flow_loss(*draw, FlowSettings(caption_dropout=0.0), 64, generator()) < 1e-4
    assert flow_loss(*draw, FlowSettings(caption_dropout=0.5), 64, generator()) > 0.1


def test_the_distilled_flow_is_the_guided_one():
    """The oracle at guidance g is that of a constant g times as large: untold + g (told - untold), untold being 0."""

    def student(x, times, *, context, pooled, guidance):
        return oracle(x, times, context=context * guidance[:, None], pooled=pooled * guidance[:, None], guidance=None)

    settings = DistillationSettings()
    arguments = oracle, states, captions(), settings, 64, generator()
    assert distillation_loss(student, *arguments) < 1e-3
    assert distillation_loss(oracle, *arguments) > 1


def test_edges_are_where_canny_finds_them():
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    disk = ((rows - 30) ** 2 + (columns - 33) ** 2 < 400).float()
    image = torch.stack((disk, 1 - 0.2 * disk, 0 * disk + 0.5))[None]
    edges = edge_maps(image)
    assert edges.shape == image.shape and set(edges.unique().tolist()) == {0.0, 1.0}
    ours = edges[0, 0].bool()
    theirs = torch.from_numpy(canny(disk.numpy(), sigma=0.8))
    near = torch.nn.functional.max_pool2d(theirs[None].float(), 3, 1, 1)[0].bool()
    assert (ours & near).sum() / ours.sum() > 0.95
    assert 0.7 < ours.sum() / theirs.sum() < 1.8
    assert edge_maps(torch.full((1, 3, 8, 8), 0.3)).sum() == 0


def test_a_controlnet_adds_nothing_before_it_is_trained():
    torch.manual_seed(0)
    unet = UNet(UNetConfig.from_dict(UNET_CONFIG)).eval()
    net = build(unet)
    x, context, control = torch.randn(2, 4, 16, 16), torch.randn(2, 24, 160), torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad():
        steered = ControlledUNet(unet, [net])(x, 500.0, context, control=control, control_scales=(1.0,))
        torch.testing.assert_close(steered, unet(x, 500.0, context))
    for name, tensor in unet.state_dict().items():
        if name.startswith(("down_blocks", "mid_block", "conv_in", "time_embedding")):
            assert torch.equal(net.state_dict()[name], tensor)


def test_t5_words_and_what_is_none(tmp_path):
    tokenizer = write_t5_tokenizer(["red apple", "a red apple", "green tree"], 2048, tmp_path)
    assert tokenizer.convert_ids_to_tokens(tokenizer("red tree").input_ids) == ["▁red", "▁tree", "</s>"]
    assert tokenizer.decode(tokenizer("red zebra").input_ids, skip_special_tokens=True) == "red zebra"
    assert len(tokenizer("a " * 50, truncation=True).input_ids) == tokenizer.model_max_length == 16


def test_the_loop_resumes_and_refuses_nan(tmp_path):
    def run(samples, folder, poison=False):
        torch.manual_seed(0)
        model = nn.Linear(3, 1)

        def loss(count, source):
            value = (model(torch.randn(count, 3, generator=source)) - 2).square().mean()
            return value * torch.nan if poison else value

        settings = LoopSettings(minutes=5, samples=samples, batch=4, warm_up_steps=1, cooldown=1e-9, learning_rate=0.1)
        train_loop(Team(), settings, model, loss, folder / "line.pt", Log(folder / "log.txt"))
        return torch.load(folder / "line.pt", weights_only=True)

    whole = run(400, tmp_path / "whole")
    assert whole["step"] == 100
    run(200, tmp_path / "parts")
    resumed = run(400, tmp_path / "parts")
    assert resumed["step"] == 100
    for part in ("models", "ema", "optimiser"):
        torch.testing.assert_close(resumed["states"][part], whole["states"][part], rtol=0, atol=0)
    assert (whole["states"]["models"]["bias"] - 2).abs() < 0.5
    with pytest.raises(FloatingPointError, match="nan at step 1"):
        run(400, tmp_path / "poisoned", poison=True)
