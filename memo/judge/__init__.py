"""Judges decide whether a remembered picture is right for a new prompt: rules, networks, language models."""
