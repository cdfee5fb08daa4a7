"""What all runs share: the reactor, the supervisor, the thread pool, and the queues in front of them."""
