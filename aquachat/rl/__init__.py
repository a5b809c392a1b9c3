"""Reinforcement learning: rollouts, the policy gradient, the stage."""
