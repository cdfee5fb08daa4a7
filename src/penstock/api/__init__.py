"""The public interface: pipelines, runs, and the constructors of stages."""
