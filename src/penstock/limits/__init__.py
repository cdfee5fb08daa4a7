"""The resource limits of a run: cgroups, confinement, and the sampling of memory."""
