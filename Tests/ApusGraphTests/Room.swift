// Room for ApusGraphTests.
