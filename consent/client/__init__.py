"""Asks and records consent from other programs. Imports nothing of the service, and needs urllib3.

Begin at `http.py` (`Client`: ask and record over the network) and `mirror.py` (`Mirror`: answers
from memory). Published alone as `tutela-client`; docs/sdk.md shows how to use it.
"""
