"""Networks as others write them: a class-conditional DiT in the style of timm, and a U-Net with a stack of skips."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def frequencies(time: Tensor, dim: int) -> Tensor:
    half = dim // 2
    rates = torch.exp(-math.log(10000) * torch.arange(half, dtype=time.dtype, device=time.device) / half)
    angles = time[:, None] * rates
    return torch.cat((angles.cos(), angles.sin()), dim=1)


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, dim))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale, gate, shift2, scale2, gate2 = self.modulation(c)[:, None].chunk(6, dim=-1)
        x = x + gate * self.attn(self.norm1(x) * (1 + scale) + shift)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class StrangersDiT(nn.Module):
    """Square patches, learned positions, class labels with a null label, registers before the image tokens."""

    def __init__(
        self, side: int = 8, channels: int = 4, patch: int = 2, dim: int = 32, depth: int = 4, classes: int = 10,
        registers: int = 0, sigma: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patch, self.registers, self.dim = patch, registers, dim
        self.out = channels * (2 if sigma else 1)
        self.embed = nn.Conv2d(channels, dim, patch, patch)
        self.position = nn.Parameter(0.1 * torch.randn(1, registers + (side // patch) ** 2, dim))
        self.register = nn.Parameter(0.1 * torch.randn(1, registers, dim))
        self.labels = nn.Embedding(classes + 1, dim)
        self.time = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.blocks = nn.ModuleList([Block(dim, 4) for _ in range(depth)])
        self.final = nn.Linear(dim, patch * patch * self.out)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        side = x.shape[-1] // self.patch
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.register.expand(len(x), -1, -1), tokens), dim=1) + self.position
        c = self.time(frequencies(t.to(x.dtype), self.dim)) + self.labels(y)
        for block in self.blocks:
            tokens = block(tokens, c)
        image = self.final(tokens[:, self.registers :]).reshape(len(x), side, side, self.patch, self.patch, self.out)
        return image.permute(0, 5, 1, 3, 2, 4).reshape(len(x), self.out, *x.shape[-2:])


def strangers_dit(dtype: torch.dtype = torch.float64, **sizes: int) -> StrangersDiT:
    """A DiT with random weights that predicts about what it reads."""
    torch.manual_seed(5)
    return StrangersDiT(**sizes).to(dtype).requires_grad_(False).eval()


class Residual(nn.Module):
    def __init__(self, channels: int, out: int, time: int) -> None:
        super().__init__()
        self.shift = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * out))
        self.norm1, self.conv1 = nn.GroupNorm(4, out), nn.Conv2d(channels, out, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(4, out), nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift = self.shift(t)[:, :, None, None].chunk(2, dim=1)
        hidden = F.silu(self.norm1(self.conv1(x)) * (scale + 1) + shift)
        return F.silu(self.norm2(self.conv2(hidden))) + self.skip(x)


class MapAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = Attention(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.flatten(2).mT).mT.unflatten(2, x.shape[-2:])


class StrangersUNet(nn.Module):
    """The published structure of lucidrains' denoising-diffusion-pytorch: lists of two residual blocks, an attention
    and a resampling at each level, a list of skip connections, and the first map again before the last block."""

    def __init__(self, channels: int = 3, widths: tuple[int, ...] = (8, 16, 16)) -> None:
        super().__init__()
        self.dim, time = widths[0], 4 * widths[0]
        self.init_conv = nn.Conv2d(channels, widths[0], 7, padding=3)
        self.time_mlp = nn.Sequential(nn.Linear(widths[0], time), nn.GELU(), nn.Linear(time, time))
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        pairs = list(zip((widths[0], *widths[:-1]), widths, strict=True))
        for level, (a, b) in enumerate(pairs):
            last = level == len(pairs) - 1
            down = nn.Conv2d(a, b, 3, padding=1) if last else nn.Conv2d(a, b, 4, 2, 1)
            self.downs.append(nn.ModuleList([Residual(a, a, time), Residual(a, a, time), MapAttention(a), down]))
        self.mid_block1, self.mid_attn = Residual(b, b, time), MapAttention(b)
        self.mid_block2 = Residual(b, b, time)
        for level, (a, b) in enumerate(reversed(pairs)):
            last = level == len(pairs) - 1
            conv = nn.Conv2d(b, a, 3, padding=1)
            up = conv if last else nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv)
            blocks = [Residual(a + b, b, time), Residual(a + b, b, time), MapAttention(b), up]
            self.ups.append(nn.ModuleList(blocks))
        self.final_res_block = Residual(2 * widths[0], widths[0], time)
        self.final_conv = nn.Conv2d(widths[0], channels, 1)

    def forward(self, x: Tensor, time: Tensor, x_self_cond: Tensor | None = None) -> Tensor:
        x = self.init_conv(x)
        first, skips = x.clone(), []
        t = self.time_mlp(frequencies(time.to(x.dtype), self.dim))
        for block1, block2, attention, down in self.downs:
            x = block1(x, t)
            skips.append(x)
            x = block2(x, t)
            x = attention(x) + x
            skips.append(x)
            x = down(x)
        x = self.mid_block1(x, t)
        x = self.mid_attn(x) + x
        x = self.mid_block2(x, t)
        for block1, block2, attention, up in self.ups:
            x = block1(torch.cat((x, skips.pop()), dim=1), t)
            x = block2(torch.cat((x, skips.pop()), dim=1), t)
            x = attention(x) + x
            x = up(x)
        return self.final_conv(self.final_res_block(torch.cat((x, first), dim=1), t))


def strangers_unet(dtype: torch.dtype = torch.float64) -> StrangersUNet:
    """A U-Net of three levels with random weights."""
    torch.manual_seed(6)
    return StrangersUNet().to(dtype).requires_grad_(False).eval()
