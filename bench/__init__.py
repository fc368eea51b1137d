"""Measurements: ratios of one run, alternated, medians. Never part of a test."""
