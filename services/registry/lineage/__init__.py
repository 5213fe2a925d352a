"""What came from what: the code behind a definition, and the story of a model in words."""
