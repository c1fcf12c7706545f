// Room for ApusRuntimeTests.
