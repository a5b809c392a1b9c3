"""aquachat: from plain text to a small language model that reasons about algebra word problems."""

__version__ = "0.1.0"
