// Room for ApusTests.
