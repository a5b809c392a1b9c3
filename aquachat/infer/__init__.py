"""Generation: key-value cache, sampling, continuous batching, and the engine over them."""
