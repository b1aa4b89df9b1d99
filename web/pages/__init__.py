"""The pages that people see. Each works without JavaScript; the modules in `static/` make them livelier."""

from . import create_page, gallery, job_page, picture_page, queue_page, sign_in

BLUEPRINTS = (sign_in.bp, create_page.bp, job_page.bp, picture_page.bp, gallery.bp, queue_page.bp)
