"""Helpers for the tests of custom stages."""

from penstock.testing.conformance import check_stage

__all__ = ["check_stage"]
