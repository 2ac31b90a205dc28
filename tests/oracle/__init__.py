"""The score a second time, slowly: docs/method.md in plain Python, held against satscore.core.

Nothing here but the tests imports satscore; the oracle shares no code, constant or table with it.
"""
