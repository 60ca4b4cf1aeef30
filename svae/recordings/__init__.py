"""`svae prepare recordings`: recordings of any kind and length become utterances with their words.

find (what is there) → speech (where somebody speaks, and where to cut) → segments (files of their own, measured) → hear
(recognised) → given, match (texts that lie beside) → filters (why some are left out) → review (the page, and what comes
back from it) → prepare (the run; the shards are written by `svae.data.prepare`).
"""
