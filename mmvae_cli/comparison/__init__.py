"""mmvae compare: many runs' evaluation.json side by side, with each other and with the published numbers. No torch."""
