"""The erasure of deleted users: from Personalize by data deletion jobs, and from new exports.

users      who is deleted, as data products and earlier jobs know it
batches    the users of each job on S3, and whether it is complete
run        starts jobs for the users that no complete job has erased, and waits for them
"""
