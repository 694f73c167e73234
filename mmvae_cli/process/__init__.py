"""How a process lives and speaks: errors, console, signals, cores, provenance. No torch."""
