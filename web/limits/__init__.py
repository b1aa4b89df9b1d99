"""Limits on what one user may request, keep waiting and upload, so that nobody takes the server from the others."""
