"""The ways out of a run: an object for Python, latents and tables as files, trackers, a folder to share."""
