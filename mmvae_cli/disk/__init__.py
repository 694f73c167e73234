"""How files are written so that damage is seen when they are read. No torch."""
