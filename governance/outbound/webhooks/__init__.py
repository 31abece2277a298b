"""Events to other services by webhook: signed, in order for each person, until they are taken."""
