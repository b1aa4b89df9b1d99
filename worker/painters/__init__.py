"""Painters turn a recipe into a picture: with the step loop, with diffusers' own pipelines, or through a service."""
