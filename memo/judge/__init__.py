"""Whether a remembered picture is right for a new prompt: rules, learned networks, language models."""
