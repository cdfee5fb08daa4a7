"""One run: plan, start, steer, cancel, conclude."""
