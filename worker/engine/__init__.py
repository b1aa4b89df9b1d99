"""The step loop and everything it computes with: networks, samplers, devices, energy."""
