"""The judge's labelled pairs: where they come from, and which of them a judge may be trained on."""
