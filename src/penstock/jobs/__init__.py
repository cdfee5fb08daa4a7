"""Many runs of one pipeline, one for each input: `Pipeline.map`. Each is a run of the engine."""
