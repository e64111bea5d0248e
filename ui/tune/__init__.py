"""The fine-tune wizard: a page each, and the small widgets on them."""
