"""The machinery that all runs share: the reactor, the supervisor, the thread pool, and their queues."""
