"""From a recipe to a picture: the step loop and what it calculates with, other pipelines, and painters elsewhere."""
