"""How bytes move: readers, writers, the memory pipe, copies, transfers, endpoints."""
