"""The steps from one form of the tables to the next, over consent's and governance's metadata."""
