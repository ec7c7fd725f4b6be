"""Training of tiny-sd: losses, schedules, averages, checkpoints, export."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from torch import nn

from sadaflow.loading.hub.write import published_keys
from sadaflow.models import Autoencoder, AutoencoderConfig
from sadaflow.training.export.stable_diffusion import write_tensors
from sadaflow.training.loops.data_parallel import Team
from sadaflow.training.loops.decoder import DecoderSettings, refine_decoder
from sadaflow.training.loops.diffusion import (
    DiffusionSettings,
    alphas_cumprod,
    build,
    diffusion_loss,
    loss_weight,
    stratified_timesteps,
)
from sadaflow.training.loops.loop import learning_rate_factor
from sadaflow.training.loops.state import Clock, Ema, Log, load_checkpoint, save_checkpoint, write_value
from sadaflow.training.loops.vae import (
    VAE_CONFIG,
    encode,
    kl_divergence,
    mixed_colours,
    standardise,
)


def test_schedule_is_stable_diffusions():
    reference = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    torch.testing.assert_close(alphas_cumprod().float(), reference.alphas_cumprod, rtol=1e-5, atol=1e-7)


def test_oracle_has_no_loss():
    table = alphas_cumprod()

    def oracle(x, timesteps, context):  # for x0 = 0: x = sigma eps, v = alpha eps
        squared = table[timesteps].float()[:, None, None, None]
        return x * (squared / (1 - squared)).sqrt()

    text = lambda tokens: SimpleNamespace(last_hidden_state=None)  # noqa: E731
    zeros = torch.zeros(8, 4, 4, 4)
    generator = torch.Generator().manual_seed(0)
    assert diffusion_loss(oracle, text, zeros, zeros, table, 5.0, generator) < 1e-4
    blind = diffusion_loss(lambda x, *_: 0 * x, text, zeros, zeros, table, 5.0, generator)
    assert blind > 0.1


def test_loss_weight_joins_v_and_x0_at_the_limit():
    squared = torch.tensor([0.1, 0.5, 5 / 6, 0.99], dtype=torch.float64)
    expected = torch.tensor([1, 1, 1, 6 * 0.01], dtype=torch.float64)
    torch.testing.assert_close(loss_weight(squared, 5.0), expected)


def test_timesteps_cover_every_stratum():
    timesteps = stratified_timesteps(50, torch.Generator().manual_seed(3))
    assert (timesteps // 20).tolist() == list(range(50))


def test_learning_rate_rises_stays_and_falls():
    settings = DiffusionSettings(warm_up_steps=10, cooldown=0.25)
    assert learning_rate_factor(0, 0.0, settings) == pytest.approx(0.1)
    assert learning_rate_factor(500, 0.5, settings) == 1
    assert learning_rate_factor(500, 0.875, settings) == pytest.approx(0.5)
    assert learning_rate_factor(500, 1.0, settings) == 0


def test_kl_divergence_matches_torch():
    mean, logvar = torch.randn(3, 2, 2, 2), torch.randn(3, 2, 2, 2)
    posterior = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    reference = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0, 1)).sum((1, 2, 3)).mean()
    torch.testing.assert_close(kl_divergence(mean, logvar), reference)


def test_colours_are_permuted_as_wholes():
    pictures = torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(mixed_colours(pictures, 0.0, generator), pictures)
    mixed = mixed_colours(pictures, 1.0, generator)
    assert not torch.equal(mixed, pictures)
    for before, after in zip(pictures, mixed, strict=True):
        assert sorted(map(str, before.tolist())) == sorted(map(str, after.tolist()))


@torch.no_grad()
def test_standardised_latents_have_mean_0_and_one_deviation_and_pictures_stay():
    torch.manual_seed(0)
    blocks = {field: VAE_CONFIG[field][:2] for field in ("down_block_types", "up_block_types")}
    config = {**VAE_CONFIG, **blocks, "block_out_channels": [16, 16]}
    vae = Autoencoder(AutoencoderConfig.from_dict(config)).double()
    for parameter in vae.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    pictures = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    images = pictures.double() / 127.5 - 1
    before, (mean, logvar) = vae(images), vae.encode(images)
    factor = standardise(vae, mean)
    torch.testing.assert_close(vae(images), before)
    scaled, moved = vae.encode(images)
    torch.testing.assert_close((factor * scaled).mean((0, 2, 3)), torch.zeros(4).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close((factor * scaled).std((0, 2, 3)), torch.ones(4).double())
    ratio = scaled.std((0, 2, 3)) / mean.std((0, 2, 3))  # the posterior's deviation scales with its mean
    torch.testing.assert_close((moved / 2).exp(), (logvar / 2).exp() * ratio[:, None, None])
    assert encode(vae.float(), pictures).shape == (4, 4, 8, 8)


def test_average_of_parameters_warms_up():
    module = nn.Linear(1, 1)
    ema = Ema(module, 0.999)
    start = module.weight.item()
    with torch.no_grad():
        module.weight.add_(1)
    ema.update(module)
    ema.copy_to(module)
    assert module.weight.item() == pytest.approx(start + 1 - 2 / 11)


def test_checkpoint_restores_every_part_and_the_clock(tmp_path: Path):
    path = tmp_path / "train.pt"
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    clock = Clock(10)
    clock.minutes = 4.0
    save_checkpoint(path, 7, {"model": first}, clock, loss=0.5)
    resumed = Clock(10)
    assert load_checkpoint(path, {"model": second}, resumed) == 7
    assert resumed.progress == pytest.approx(0.4)
    assert torch.equal(first.weight, second.weight)
    assert load_checkpoint(tmp_path / "none.pt", {"model": second}, resumed) == 0


def test_failed_write_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "value.pt"
    write_value(path, 1)
    with pytest.raises(Exception, match="pickle"):
        write_value(path, lambda: None)
    assert torch.load(path) == 1


def test_workers_draw_different_numbers_and_repeat_themselves():
    def draw(rank: int, step: int) -> float:
        return torch.rand(1, generator=Team(rank, 2).generator(1, step)).item()

    assert len({draw(rank, step) for rank in (0, 1) for step in (0, 1)}) == 4
    assert draw(1, 1) == draw(1, 1)


def test_export_carries_published_names_in_half_precision(tmp_path: Path):
    from safetensors.torch import load_file

    state = published_keys({"final_layer_norm.bias": torch.ones(2), "text_model.encoder.x": torch.ones(1)})
    write_tensors(tmp_path / "model.safetensors", state)
    stored = load_file(tmp_path / "model.safetensors")
    assert set(stored) == {"text_model.final_layer_norm.bias", "text_model.encoder.x"}
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}


def test_models_stay_below_their_size_in_files():
    unet, text = build(2300)
    vae = Autoencoder(AutoencoderConfig.from_dict(VAE_CONFIG))
    sizes = [2 * sum(p.numel() for p in model.parameters()) for model in (unet, vae, text)]
    assert max(sizes) < 15e6
    assert sum(sizes) < 30e6


def test_decoder_training_lowers_its_loss_and_leaves_the_encoder_alone(tmp_path: Path):
    torch.manual_seed(0)
    blocks = {field: VAE_CONFIG[field][:2] for field in ("down_block_types", "up_block_types")}
    vae = Autoencoder(AutoencoderConfig.from_dict({**VAE_CONFIG, **blocks, "block_out_channels": [16, 16]}))
    pictures = torch.full((4, 3, 8, 8), 255, dtype=torch.uint8)
    latents = encode(vae, pictures)
    before = (vae.decode(latents) - 1).abs().mean()
    settings = DecoderSettings(minutes=0.05, batch=4, learning_rate=1e-2, warm_up_steps=1, ema_decay=0.0)
    refine_decoder(Team(), settings, vae, latents, pictures, torch.ones(4), tmp_path, Log(tmp_path / "log.txt"))
    assert (vae.decode(latents) - 1).abs().mean() < 0.9 * before
    torch.testing.assert_close(encode(vae, pictures), latents)
    assert (tmp_path / "decoder.pt").is_file()


CHECKPOINT = Path(__file__).parents[2] / "sadaflow" / "checkpoints" / "tiny-sd"


def test_shipped_checkpoint_loads_in_diffusers():
    pipeline = StableDiffusionPipeline.from_pretrained(str(CHECKPOINT))
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.tokenizer.model_max_length == pipeline.text_encoder.config.max_position_embeddings
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) <= 15e6
    assert sum(path.stat().st_size for path in files) <= 30e6
