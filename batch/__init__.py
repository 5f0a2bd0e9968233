"""The plane at rest: from the domains' stores to data products, and from these to a trained recommender."""
