"""Work that runs by itself: on a schedule, once on any number of nodes, resumed after a crash."""
