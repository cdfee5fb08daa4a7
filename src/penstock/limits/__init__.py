"""What a run may use: cgroups, confinement, and watches on memory."""
