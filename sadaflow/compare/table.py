"""Formats a comparison as text."""

from ..files.printable import cell
from .comparison import Comparison


def table(comparison: Comparison) -> str:
    """Formats the comparison as aligned text.

    NFE, PSNR and SSIM are means over the prompts, seconds are the sum. With several prompts a column `worst` holds the
    lowest PSNR; with videos `worst frame` holds the lowest of a frame. Sounds have no SSIM.
    """
    several, similar = len(comparison.prompts) > 1, bool(comparison.plain.ssim)
    moving = bool(comparison.plain.worst_frame)
    total = sum(comparison.plain.seconds)
    lines = [["", "NFE", "seconds", "speed-up", "PSNR", *(["worst"] if several else [])]]
    lines[0] += ["worst frame"] if moving else []
    lines[0] += ["SSIM"] if similar else []
    for row in comparison.rows:
        count, plain = len(row.nfe), row is comparison.plain
        seconds = sum(row.seconds)
        lines.append(
            [
                row.name,
                f"{sum(row.nfe) / count:.1f}".removesuffix(".0"),
                f"{seconds:.2f}",
                f"{total / seconds:.2f}x" if seconds > 0 else "-",
                "-" if plain else f"{sum(row.psnr) / count:.2f}",
                *(["-" if plain else f"{min(row.psnr):.2f}"] if several else []),
                *(["-" if plain else f"{min(row.worst_frame):.2f}"] if moving else []),
                *(["-" if plain else f"{sum(row.ssim) / count:.4f}"] if similar else []),
            ]
        )
    lines = [list(map(cell, line)) for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) if not column else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    )  # fmt: skip
