"""What the picture model is asked, how real renders of the same look, and who judges both; `bench.model` runs it."""
