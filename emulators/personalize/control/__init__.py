"""The control plane of the Personalize emulator: boto3's `personalize`, JSON 1.1.

Offered: Create, Describe, List and Delete of schemas, dataset groups, datasets (and UpdateDataset),
dataset import jobs (FULL and INCREMENTAL) and data deletion jobs (neither can be deleted), event
trackers, solutions, solution versions, campaigns (and UpdateCampaign), filters. Domains,
recommenders, actions, AutoML, metrics and tags are refused, not ignored. Recipes are listed; the
emulator trains those of user personalization and personalized ranking. Automatic training (the
service's default) makes the first solution version, not the weekly ones.

operations   the calls; deletions beside them
state        the resources, and the data of their dataset groups
work         the work behind a call: imports, trainings, deployments
schemas      the rules of schemas
csv_rules    the rules of CSV files
filters      the supported filter expressions
filtering    applies a filter to candidates
lifecycle    a resource and its status, which depends on the time
kinds        the kinds of resources: names, members, and responses by the service's model
registry     the resources in SQLite; seeds: the resources that exist from the start
source       CSV objects in S3
imports      an import job
erasure      a data deletion job
bulk         imported data in SQLite, a file for each dataset group
training     the training of a model

Intentional differences from the service:

- A dataset group with datasets, an event tracker and a campaign exists from the start, and cannot
  be deleted. The schemas of its datasets can be replaced by any others (UpdateDataset) until the
  first bulk import; after that, and in every other group, the service's rules apply.
- Records that were put take precedence over imported ones, whichever is newer.
- A solution version is the emulator's small model, trained with the newest interactions (an option
  sets the number); it learns from PutEvents while a campaign uses it.
- A data deletion job trains the models of its dataset group again without the users; the service
  documents that they are removed from the models, and recommends a new solution version.
- A filter is applied to the 2,000 best candidates, so a response can have fewer results than
  requested.
"""
