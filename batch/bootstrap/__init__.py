"""The bootstrap: four data products in, CSV that Amazon Personalize imports out.

One Flink job in batch mode reads the files that the products' manifests list, checks each row,
brings every item domain into one items dataset and writes bare CSV lines into a working folder
(:mod:`batch.bootstrap.sql`, :mod:`batch.bootstrap.job`). When it has ended, what may be imported is
put in its place with its header, and the report beside it (:mod:`batch.bootstrap.finish`). Too
little to train with: there is a report and no CSV.
"""
