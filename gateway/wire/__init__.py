"""The narrow waist: one shape for every request and answer, and one router for all wires."""
