"""The drawings that condition our own picture model: finds them for a prompt and lays them out on a sheet."""
