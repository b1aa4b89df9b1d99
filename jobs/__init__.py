"""What was asked for, by whom, and how far it is: all that Redis keeps, and who is told of it. Knows no torch."""
