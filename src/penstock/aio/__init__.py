"""What needs anyio: streams, stages and copies for event loops."""
