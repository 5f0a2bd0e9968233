"""The control plane of the local Personalize: boto3's `personalize`, JSON 1.1.

Offered: Create, Describe, List and Delete of schemas, dataset groups, datasets (and UpdateDataset),
dataset import jobs (FULL and INCREMENTAL; they cannot be deleted), event trackers, solutions,
solution versions, campaigns (and UpdateCampaign), filters. Domains, recommenders, actions, AutoML,
automatic training, metrics and tags are refused, never ignored.

operations   the calls; deletions beside them
state        the resources, and the data of their dataset groups
work         what goes on after a call was answered: imports, trainings, deployments
schemas      what a schema may hold
csv_rules    what a line of an import may hold
filters      the filter expressions that are understood
lifecycle    a resource and its status by the clock
kinds        the kinds of resources: names, members; the answers by the service's model
registry     the resources in SQLite; seeds: those that exist from the start
source       CSV objects in S3
imports      one import job
bulk         what was imported in bulk, in SQLite, a file for each dataset group
training     one training
recommending a filter's word on candidates

Where it differs from the service on purpose:

- A dataset group with datasets, an event tracker and a campaign exists from the start, and cannot
  be deleted. Its datasets' schemas are replaced freely (UpdateDataset) until the first import in
  bulk; after that, and in every other group, the service's rules for a replacement hold.
- Records that were put one by one win over those imported in bulk, whatever came last.
- A solution version is this server's small model, trained with the newest interactions (a bound
  that is an option); it goes on learning from PutEvents while a campaign serves it.
- A filter is applied to the 2,000 best candidates, so an answer can be shorter than was asked for.
"""
