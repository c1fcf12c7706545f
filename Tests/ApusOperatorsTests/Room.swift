// Room for ApusOperatorsTests.
