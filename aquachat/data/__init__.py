"""From raw sets to batches: preparing, token shards, the text loader and the chat mixture."""
