// Room for ApusFormatsTests.
