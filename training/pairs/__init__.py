"""Reads the judge's labelled pairs and splits them into train, dev and test."""
