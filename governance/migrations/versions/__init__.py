"""One module a step, `vNNNN_what_it_does.py`, never changed once it was released."""
