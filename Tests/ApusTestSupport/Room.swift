// Room for ApusTestSupport.
