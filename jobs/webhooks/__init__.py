"""Webhooks: telling a receiver over HTTP that a job has ended."""
