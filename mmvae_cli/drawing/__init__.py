"""Pictures of any kind: grids of cells, and the figures of matplotlib. No torch, and nothing of what is drawn."""
