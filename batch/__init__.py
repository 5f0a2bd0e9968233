"""The plane at rest: from the domains' data products to a trained recommender."""
