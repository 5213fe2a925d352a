"""What the registry decides: versions, definitions, numbers. No input, no output."""
