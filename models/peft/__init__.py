"""Parameter-efficient tuning methods for SAM: each a configuration, a plan and a part that comes off again."""
