"""The kernel and the platform: descriptors, processes, polling. Only here is the platform asked for."""
