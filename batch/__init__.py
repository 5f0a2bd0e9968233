"""The plane at rest: domain stores to data products, and these to a trained recommender."""
