"""From the bytes of a request to rows that fit, and from a version's answers to usable ones.

Strict where it costs the caller nothing: what is not exactly a row of this model is refused with
its place, because a guess would become a wrong prediction that nobody notices.
"""
