"""Streams, stages and copies for event loops; this package needs anyio."""
