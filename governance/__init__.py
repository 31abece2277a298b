"""Acting on data: keys, vault, accounts, audit, jobs and, in time, discovery and retention."""
