"""What leaves this machine: exports, releases, model cards, artifacts."""
