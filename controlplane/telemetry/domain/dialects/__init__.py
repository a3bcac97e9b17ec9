"""How each ecosystem's metric names express the signals: one module per dialect."""
