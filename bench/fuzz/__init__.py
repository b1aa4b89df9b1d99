"""Seeded, bounded fuzzing of everything that reads what others send: `python -m bench.fuzz PART --count N`.

A part makes one case after another from a seed and gives it to its readers. A reader may refuse a case with errors
that it is known to raise. Any other exception is a failure, and so is more than a second of processor time.
"""
