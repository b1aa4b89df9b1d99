"""The drawings that our own picture model looks at while it paints: which, and where they are to stand."""
