"""``python -m mmvae_cli``: the same command as ``mmvae`` (what torchrun starts)."""

from mmvae_cli.cli import main

if __name__ == "__main__":
    main()
