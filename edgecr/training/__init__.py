"""The one training loop and what is plugged into it: losses, optimisers, augmentation, schedules."""
