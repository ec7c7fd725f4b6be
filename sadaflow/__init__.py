"""Samplers for diffusion and flow-matching models, with stability-guided adaptive acceleration (SADA)."""
