"""Evaluation: asking, grading, intervals, and bits per byte."""
