"""How a run is steered."""
