"""The colours of paper, ink and lines in every figure."""

INK, FAINT, PAPER = "#222222", "#666666", "#ffffff"
GRID, BAND, TRAIL = "#e4e4e4", "#f4f4f4", "#b0b0b0"  # grid lines, marked ranges, lines that join dots
