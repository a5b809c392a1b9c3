"""Recipes, presets, and how settings combine. Standard library only."""
