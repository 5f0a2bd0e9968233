"""How the domains' stores keep records: tables and types, derived from the contracts.

Written by the back ends (``services``); the exports (``batch``) decode items of DynamoDB with them.
"""
