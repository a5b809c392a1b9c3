"""The transformer, its losses and its optimizer, and how depth gives their size."""
