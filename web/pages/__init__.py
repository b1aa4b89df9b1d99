"""The pages that people see."""

from . import gallery, jobs_pages, sign_in, workers

BLUEPRINTS = (sign_in.bp, jobs_pages.bp, gallery.bp, workers.bp)
