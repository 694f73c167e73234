"""How bytes reach the disk and are believed again. No torch."""
