"""Helpers for testing custom stages: `check_stage`."""

from penstock.testing.conformance import check_stage

__all__ = ["check_stage"]
