"""The catalog of data products, on AWS Glue and Lake Formation.

catalog       registers, finds and opens products, grants and revokes access
tables        a product as a Glue table, and back
permissions   Lake Formation's permissions on tables
pii           the PII classes of fields, and which columns a grant includes
"""
