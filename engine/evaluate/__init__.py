"""How good is a model on labelled data: simulated clicks and boxes, as the plugin would answer them, and figures."""
