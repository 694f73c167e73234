"""The model: experts -> fusion -> components -> z -> decoders -> terms -> weighted sum. No printing, no files.

One alphabet of shapes: M modalities, S subsets of the family, B batch, D shared latent, P private latent, K importance
samples, Z latents decoded per item, C H W image, L text length, V vocabulary. Losses are nats per item: summed over
dimensions, averaged over the batch.
"""
