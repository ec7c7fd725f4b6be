"""Transformer blocks over text tokens followed by image tokens, which several architectures share."""
