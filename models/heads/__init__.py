"""What turns SAM's features into classes or instances without prompts."""
