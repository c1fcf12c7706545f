// Room for ApusOptimizer.
