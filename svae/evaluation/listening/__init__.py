"""`svae listen`: blind listening tests, from the page that people fill in to the scores."""
