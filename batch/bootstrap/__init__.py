"""The bootstrap: four data products in, CSV that Amazon Personalize imports out.

One Flink job in batch mode reads the files that the products' manifests list, checks each row,
brings every item domain into one items dataset and writes bare CSV lines into a working folder
(:mod:`batch.bootstrap.sql`, :mod:`batch.bootstrap.job`). After its end, CSV files with headers and
the report are put beside it (:mod:`batch.bootstrap.finish`). Without enough data for a training
there is a report and no CSV.
"""
