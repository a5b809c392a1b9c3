"""Tasks: rows that become examples, and a grade for a reply. Nothing here imports torch."""
