"""The HTTP interface of consent: JSON in, JSON out, errors as RFC 9457 problem details."""
