"""How results look in a notebook: small pieces of HTML and SVG, which read on light and dark backgrounds."""
