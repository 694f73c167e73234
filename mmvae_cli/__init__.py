"""mmvae: multimodal VAEs as one model over a family of modality subsets."""

__version__ = "0.1.0"
