"""Rented GPUs: providers, the ledger of machines, and launching that leaves nothing running."""
