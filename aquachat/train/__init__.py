"""The training loop, checkpoints, schedules, and the stages base, mid and SFT."""
