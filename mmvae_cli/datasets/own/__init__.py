"""Data of the user's own: a table of pictures, texts, numbers and labels, or plain arrays."""
