"""Who takes part, and proof of what was said and done."""
