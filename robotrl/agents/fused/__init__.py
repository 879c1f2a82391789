"""One whole SAC update as one call: native where a compiler is at hand, hand-written torch where not."""
