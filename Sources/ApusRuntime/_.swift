// Room for ApusRuntime.
