"""Published tables of noise levels that were optimised for a network."""

from typing import Final

import numpy as np

from .spacing import Row

TABLES: Final[dict[str, dict[int, tuple[float, ...]]]] = {
    # Sabour et al. 2024, Align Your Steps, arXiv 2404.14507: ten steps.
    "ays_sd": {
        10: (14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092, 0.9642583904,
             0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582),
    },
    "ays_sdxl": {
        10: (14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141, 0.5550693289,
             0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582),
    },
    # The last level is the lowest that Stable Video Diffusion was trained with.
    "ays_svd": {10: (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002)},
    # Chen et al. 2024, GITS, arXiv 2405.11326: Stable Diffusion, coefficient 1.20, for five, eight and ten steps.
    "gits": {
        5: (14.61464119, 2.84484982, 1.24153244, 0.59516323, 0.25053367, 0.02916753),
        8: (14.61464119, 5.85520077, 2.45070267, 1.36964464, 0.803307, 0.45573691, 0.25053367, 0.09824532, 0.02916753),
        10: (14.61464119, 5.85520077, 2.84484982, 1.67050016, 1.08895338, 0.74807048, 0.50118381, 0.32104823,
             0.19894916, 0.09824532, 0.02916753),
    },
}  # fmt: skip
"""For each table, its rows by their number of steps N: N+1 values of sigma/alpha."""


def stretched(name: str, steps: int) -> Row:
    """Computes the levels (steps + 1,) of a table, the last replaced by 0.

    Without a row for the number of steps, the row of ten steps is interpolated, piecewise linear in log(sigma/alpha)
    over the index, as published.

    Args:
        name: one of `TABLES`.
        steps: number of steps.
    """
    rows = TABLES[name]
    row = np.array(rows.get(steps, rows[10]))
    at = np.linspace(0, len(row) - 1, steps + 1)
    levels = np.exp(np.interp(at, np.arange(len(row)), np.log(row)))
    levels[-1] = 0.0
    return levels
